// Trains a model that is cut into stages, along any schedule.
//
// Every rank makes a Pipeline of the same schedule and of its own end of a transport, and calls step() and
// evaluate() as often and in the same order as the other ranks. A Pipeline is used by one thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "counterflow/runtime/stage.h"
#include "counterflow/runtime/transport.h"
#include "counterflow/schedule.h"

namespace counterflow::runtime {

/// Makes a stage. Called on each rank for the stages that the rank holds, each once, ascending.
using StageFactory = std::function<std::shared_ptr<Stage>(int stage)>;

/// The loss of a micro-batch, a scalar, from the last stage's outputs and the micro-batch's targets.
using Loss = std::function<at::Tensor(const Tensors& outputs, const Tensors& targets)>;

struct PipelineOptions {
  /// Called on the ranks that hold the last stage.
  Loss loss;

  /// How long a rank waits for another before it gives up.
  std::chrono::milliseconds timeout = std::chrono::minutes(5);
};

/// What a step works on, by micro-batch. A rank may leave out what it does not need: only the ranks that hold
/// the first stage need inputs, only those that hold the last one targets. In a bidirectional schedule both
/// ends hold both: the first half of the micro-batches goes in at rank 0 and comes out at the last rank, the
/// second half the other way (Pipeline::takes_input(), takes_target()).
struct Batch {
  std::vector<Tensors> inputs;
  std::vector<Tensors> targets;

  /// What each micro-batch's loss counts in the step's loss; by default 1 / micro-batches each.
  std::vector<double> weights;
};

/// Cuts tensors along their first dimension into micro-batches as equal as can be, weighted by their sizes,
/// so that the sum of weighted mean losses is the mean loss of the whole.
Batch deal(const Tensors& inputs, const Tensors& targets, int num_micro_batches);

struct StepResult {
  std::vector<at::Tensor> losses;  ///< of the micro-batches whose last stage is here; others undefined
  std::vector<Tensors> outputs;    ///< evaluate() only: likewise
};

class Pipeline {
 public:
  /// Collective. Throws InvalidConfig where the schedule and the ranks do not fit, or the schedule is wrong.
  Pipeline(Schedule schedule, Transport& transport, const StageFactory& make_stage, PipelineOptions options);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  /// All forwards and backwards of one batch; adds to the parameters' gradients those of
  /// Σ weight × loss, over all micro-batches and both copies of a stage. Throws StepFailed.
  StepResult step(const Batch& batch);

  /// The forwards only, without gradients, in evaluation mode. Targets, and a loss, may be left out.
  StepResult evaluate(const Batch& batch);

  /// The stages of this rank.
  const std::vector<std::int32_t>& stages() const;

  /// What an optimizer of this rank updates.
  std::vector<at::Tensor> parameters() const;
  std::vector<NamedTensor> named_parameters() const;  ///< "3.weight" of stage 3

  bool takes_input(int micro_batch) const;
  bool takes_target(int micro_batch) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace counterflow::runtime
