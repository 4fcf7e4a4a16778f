// Trains a model that is cut into stages, along any schedule.
//
// Every rank makes a Pipeline of the same schedule and of its own end of a transport, and then makes the same
// calls in the same order as the other ranks. A Pipeline is used by one thread. Optimizers, learning rates
// and the like are the program's: a Pipeline only computes gradients, as a loss.backward() over the whole
// batch and the whole model would.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "counterflow/runtime/recorder.h"
#include "counterflow/runtime/stage.h"
#include "counterflow/runtime/transport.h"
#include "counterflow/schedule.h"
#include "counterflow/timeline.h"

namespace counterflow::runtime {

/// Makes a stage. Called on each rank for the stages that the rank holds, each once, ascending. Random
/// numbers that it draws follow from PipelineOptions::seed and the stage's number, and not from
/// torch::manual_seed(), unless they come from a generator that it names (random.h).
using StageFactory = std::function<std::shared_ptr<Stage>(int stage)>;

namespace detail {
/// The first of each. Throws InvalidConfig where there is none.
std::pair<const at::Tensor&, const at::Tensor&> output_and_target(const Tensors& outputs,
                                                                  const Tensors& targets);
}  // namespace detail

/// The loss of a micro-batch: a number, from the last stage's outputs and the micro-batch's targets. Made of
/// anything callable with two tensors (the first of each) or with two vectors of tensors. Parameters
/// belong into the last stage: a loss's own are not among parameters(), and copies do not add up their
/// gradients.
class Loss : public std::function<at::Tensor(const Tensors& outputs, const Tensors& targets)> {
 public:
  Loss() = default;

  template <class Function>
  requires(!std::is_same_v<std::remove_cvref_t<Function>, Loss>)
      Loss(Function f)  // NOLINT(google-explicit-constructor)
      : std::function<at::Tensor(const Tensors&, const Tensors&)>(adapt(std::move(f))) {}

 private:
  template <class Function>
  static auto adapt(Function f) {
    if constexpr (std::is_invocable_v<Function&, const at::Tensor&, const at::Tensor&>)
      return [f = std::move(f)](const Tensors& outputs, const Tensors& targets) mutable {
        const auto [output, target] = detail::output_and_target(outputs, targets);
        return f(output, target);
      };
    else
      return f;
  }
};

/// A parameter that several stages have in common, such as an embedding that the last stage multiplies with.
struct Tie {
  struct Member {
    int stage = 0;
    std::string name;  ///< of the parameter within its stage
  };
  std::vector<Member> members;
};

struct PipelineOptions {
  /// Called on the ranks that hold the last stage.
  Loss loss{};

  /// Stages whose activations are not kept: their forward runs again when backward comes.
  std::vector<int> recompute{};

  /// Parameters that are one: they start as the first member, and each gets the sum of all members'
  /// gradients.
  std::vector<Tie> ties{};

  /// Data parallelism: as many pipelines side by side, over as many times more ranks. Pipeline i is ranks
  /// i × P … i × P + P − 1, each with its own batch; gradients are summed over all.
  int replicas = 1;

  /// The type in which gradients of parameters of a smaller type are added up: at::kFloat for weights in bf16
  /// or fp16, as large training does, or at::kDouble. By default each parameter's own, in which a sum of many
  /// small gradients goes wrong (in bf16, 256 + 1 is 256). Each micro-batch's gradient is computed in the
  /// parameter's type, added, and freed at once. The sums over micro-batches, copies, ties, replicas and
  /// steps are of this type, and so is parameter.grad(), which clip_gradient_norm() and optimizers see.
  /// Torch's AdamW takes such gradients, but keeps its averages in the parameter's type; one that has fp32
  /// copies of the weights updates those from them.
  std::optional<at::ScalarType> gradient_type{};

  /// Of the random numbers that stages draw, with the number of the step, the stage and the micro-batch
  /// (random.h). With replicas, the micro-batch counts through all of them.
  std::uint64_t seed = 0;

  /// Whether micro-batches of one step may differ in shapes and types. Where they may not, one that does is
  /// an error.
  bool varying_shapes = false;

  /// Whether a loss that is infinite or not a number ends the step.
  bool check_losses = false;

  /// Whether step() returns the last stage's outputs.
  bool keep_outputs = false;

  /// Records the second training step and replays it from then on, with the results of the step as it is; to
  /// gradients that are there already the step's sum is added. Shapes and weights stay the same then, and the
  /// gradients that step() leaves are overwritten by the next unless it has to add to them. What stages and
  /// the loss take from the host (a number to scale by, a mask made there) stays as it was recorded; batches
  /// lie on the GPU, and parameters are changed in place. Needs a transport that can be recorded, on all
  /// ranks.
  std::shared_ptr<StepRecorder> recorder{};

  /// Adds the gradients of linear layers' weights to those of earlier micro-batches inside the matrix
  /// product, as Megatron-LM's gradient accumulation fusion does: less memory traffic, and one rounding
  /// instead of two, so that bits differ from those of a loop over loss.backward(). Parameters with hooks are
  /// left as they are.
  bool fuse_gradient_sums = false;

  /// On how many streams of its GPU a rank computes. With two, the forward and the backward of a pair run
  /// side by side, as do others that the schedule lets: that pays in recorded steps of small kernels, which
  /// leave room on the GPU, not where each fills it. 0 finds out: the first seven recorded steps try one and
  /// two, all ranks alike. The same bits come out in any case; activations may take more memory. Steps whose
  /// timeline is noted run on one. Unless it is said, 0 where each rank is a process of its own; 1 where
  /// ranks are threads, where what one frees for another recording waits for the others' GPUs.
  std::optional<int> streams{};

  /// How long a rank waits for another before it gives up.
  std::chrono::milliseconds timeout = std::chrono::minutes(5);
};

/// What a step works on, by micro-batch. A rank may leave out what it does not need: only the ranks that hold
/// the first stage need inputs, only those that hold the last one targets. In a bidirectional schedule both
/// ends hold both: the first half of the micro-batches goes in at the first rank and comes out at the last,
/// the second half the other way (Pipeline::takes_input(), takes_target()).
struct Batch {
  std::vector<Tensors> inputs;
  std::vector<Tensors> targets;

  /// What each micro-batch's loss counts in the sum that is differentiated; by default each 1 /
  /// (micro-batches × replicas), which makes that sum the mean.
  std::vector<double> weights;
};

/// Cuts tensors along their first dimension into micro-batches as equal as can be, weighted by their sizes,
/// so that the weighted sum of mean losses is the mean loss of the whole. For one pipeline: with replicas
/// divide the weights by their number. Throws InvalidConfig where there is less than one row for each.
Batch deal(const Tensors& inputs, const Tensors& targets, int num_micro_batches);

struct StepResult {
  std::vector<at::Tensor> losses;  ///< of the micro-batches whose last stage is here; others undefined
  std::vector<Tensors> outputs;    ///< of the same, by evaluate() and where keep_outputs is set
  std::vector<double> weights;     ///< of all micro-batches
};

class Pipeline {
 public:
  /// Collective: all ranks of the transport. Throws InvalidConfig where the schedule is wrong, or differs
  /// between ranks, or does not fit their number, and StepFailed where another rank fails.
  /// `transport` outlives the pipeline and is its alone: one made on it later takes it over. Where ranks are
  /// threads each makes parameters of its own, which is checked. Copies of a stage start equal, as on the
  /// first of their ranks, and stay so: after each step all have the first one's buffers (batch norm's
  /// averages), as with torch's DDP.
  Pipeline(Schedule schedule, Transport& transport, const StageFactory& make_stage, PipelineOptions options);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  /// All forwards and backwards of one batch. Adds the gradients of Σ weight × loss over all micro-batches to
  /// those that the parameters have: several steps accumulate. All copies of a parameter get the same.
  /// Throws StepFailed, on all ranks; the pipeline is of no use after that, except to be destroyed.
  StepResult step(const Batch& batch);

  /// The same of a whole batch, cut by deal().
  StepResult step(const Tensors& inputs, const Tensors& targets);

  /// The forwards only, without gradients, in evaluation mode. Targets may be left out: then there is no
  /// loss.
  StepResult evaluate(const Batch& batch);
  StepResult evaluate(const Tensors& inputs, const Tensors& targets = {});

  /// Collective: Σ weight × loss over all micro-batches, on all ranks.
  double total_loss(const StepResult& result);

  /// Collective: scales all gradients so that their norm, over the whole model, is at most `max_norm`.
  /// Returns the norm before. Counts every parameter once, whoever has copies of it.
  double clip_gradient_norm(double max_norm);

  /// From now on, notes what each training step does and when. With `split_backward` every B runs as I and
  /// then W, so that their times are known apart. Throws InvalidConfig where steps are replayed
  /// (PipelineOptions::recorder).
  void record_timeline(bool on, bool split_backward = false);

  /// Collective: the last step noted, of all ranks (with replicas: of this one's), in nanoseconds from its
  /// first action. Ranks on one host share a clock; those on others are off by what their clocks differ.
  /// Throws InvalidConfig where there is none.
  Timeline timeline();

  /// Collective: what each stage takes, in microseconds, by the medians of `num_steps` steps with split
  /// backwards after one to warm up; with the bytes of outputs, parameters and gradients. For simulate() and
  /// for cost files. Parameters and gradients stay as they are; otherwise these are steps like any other.
  CostModel profile(const Batch& batch, int num_steps);

  /// The stages of this rank, ascending.
  const std::vector<std::int32_t>& stages() const;

  /// One of them. Throws InvalidConfig for a stage that is not here.
  Stage& stage(int number) const;

  /// What an optimizer of this rank updates: each tensor once.
  std::vector<at::Tensor> parameters() const;

  /// Whether this rank's batch needs a micro-batch's inputs, its targets.
  bool takes_input(int micro_batch) const;
  bool takes_target(int micro_batch) const;

  const Schedule& schedule() const;

  /// Steps taken, which random numbers depend on. A run that goes on from a checkpoint sets it.
  std::int64_t num_steps() const;
  void set_num_steps(std::int64_t steps);

 private:
  class Impl;
  Batch deal_to_replica(const Tensors& inputs, const Tensors& targets) const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace counterflow::runtime
