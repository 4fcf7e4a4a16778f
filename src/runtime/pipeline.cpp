#include "counterflow/runtime/pipeline.h"

#include <c10/core/AutogradState.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <sstream>
#include <utility>

#include "counterflow/error.h"
#include "counterflow/program.h"
#include "counterflow/runtime/error.h"
#include "executor.h"

namespace counterflow::runtime {
namespace {

using Clock = std::chrono::steady_clock;

/// One readable line: a torch error without its stack.
std::string message_of(const std::exception& error) {
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error))
    return torch_error->what_without_backtrace();
  return error.what();
}

/// Autograd runs on this thread while this lives. Otherwise every rank of a process that shares a GPU would
/// wait for the GPU's one worker thread.
class BackwardOnThisThread {
 public:
  BackwardOnThisThread() : before_(c10::AutogradState::get_tls_state().get_multithreading_enabled()) {
    c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  }
  ~BackwardOnThisThread() { c10::AutogradState::get_tls_state().set_multithreading_enabled(before_); }
  BackwardOnThisThread(const BackwardOnThisThread&) = delete;
  BackwardOnThisThread& operator=(const BackwardOnThisThread&) = delete;

 private:
  bool before_;
};

/// Equal on all ranks that run the same schedule.
std::string digest(const Schedule& schedule) {
  std::ostringstream text;
  text << schedule.num_ranks() << ' ' << schedule.num_stages() << ' ' << schedule.num_micro_batches() << ' ';
  std::size_t hash = 0;
  for (const auto& actions : schedule.actions) {
    for (const Action& action : actions) {
      hash = hash * 1000003 + std::hash<std::string>()(to_string(action));
    }
    hash = hash * 1000003 + 1;
  }
  text << hash;
  return text.str();
}

}  // namespace

class Pipeline::Impl {
 public:
  Impl(Schedule schedule, Transport& transport, const StageFactory& make_stage, PipelineOptions options)
      : schedule_(std::move(schedule)), transport_(transport), options_(std::move(options)) {
    check_ranks();
    const Program program = lower(schedule_);
    forward_schedule_ = forward_only(schedule_);
    const Program forward_program = lower(forward_schedule_);
    connect(program, forward_program);
    stage_numbers_ = schedule_.placement.stages_on(transport.rank());
    for (const int stage : stage_numbers_) {
      stages_.push_back(make_stage(stage));
      if (!stages_.back()) throw InvalidConfig("no stage was made for stage " + std::to_string(stage));
    }
    equalise_copies(program);
    const Executor::Surroundings with{transport_, stage_numbers_, stages_, options_};
    training_ = std::make_unique<Executor>(schedule_, program, with);
    evaluation_ = std::make_unique<Executor>(forward_schedule_, forward_program, with);
  }

  StepResult step(const Batch& batch) {
    check(batch, true);
    return run(*training_, batch);
  }

  StepResult evaluate(const Batch& batch) {
    check(batch, false);
    for (const auto& stage : stages_) stage->train(false);
    StepResult result = run(*evaluation_, batch);
    for (const auto& stage : stages_) stage->train(true);
    return result;
  }

  const std::vector<std::int32_t>& stages() const { return stage_numbers_; }

  std::vector<NamedTensor> named_parameters() const {
    std::vector<NamedTensor> all;
    for (std::size_t i = 0; i < stages_.size(); ++i)
      for (NamedTensor& parameter : stages_[i]->parameters())
        all.push_back(
            {std::to_string(stage_numbers_[i]) + "." + parameter.name, std::move(parameter.tensor)});
    return all;
  }

  bool holds(int stage, int micro_batch) const {
    return schedule_.placement.rank_of(stage, micro_batch) == transport_.rank();
  }

  const Schedule& schedule() const { return schedule_; }

 private:
  void check_ranks() const {
    if (transport_.num_ranks() != schedule_.num_ranks())
      throw InvalidConfig("the schedule " + schedule_.name + " is for " +
                          std::to_string(schedule_.num_ranks()) + " ranks; there are " +
                          std::to_string(transport_.num_ranks()));
    const std::vector<std::string> digests = transport_.all_gather(digest(schedule_));
    for (std::size_t rank = 0; rank < digests.size(); ++rank)
      if (digests[rank] != digests[transport_.rank()])
        throw InvalidConfig("rank " + std::to_string(rank) + " runs another schedule than rank " +
                            std::to_string(transport_.rank()));
  }

  void connect(const Program& program, const Program& forward_program) {
    Wiring wiring;
    wiring.timeout = options_.timeout;
    for (const Channel& channel : program.channels) {
      int buffers = channel.receive_buffers;
      for (const Channel& other : forward_program.channels)
        if (other.from == channel.from && other.to == channel.to)
          buffers = std::max(buffers, other.receive_buffers);
      wiring.channels.push_back({channel.from, channel.to, buffers});
    }
    for (const Reduction& reduction : program.reductions) wiring.groups.push_back(reduction.ranks);
    transport_.connect(wiring);
  }

  /// Copies of a stage start as the one on its first rank.
  void equalise_copies(const Program& program) {
    std::vector<Tensors> of_group(program.reductions.size());
    for (const Instruction& instruction : program.ranks[transport_.rank()]) {
      if (instruction.op != Op::kReduceGradients) continue;
      const auto index = std::find(stage_numbers_.begin(), stage_numbers_.end(), instruction.stage);
      const Stage& stage = *stages_[index - stage_numbers_.begin()];
      for (const NamedTensor& tensor : stage.parameters())
        of_group[instruction.channel].push_back(tensor.tensor.detach());
      for (const NamedTensor& tensor : stage.buffers())
        of_group[instruction.channel].push_back(tensor.tensor);
    }
    for (std::size_t group = 0; group < of_group.size(); ++group) {
      const std::vector<std::int32_t>& ranks = program.reductions[group].ranks;
      if (std::find(ranks.begin(), ranks.end(), transport_.rank()) != ranks.end())
        transport_.broadcast(static_cast<int>(group), ranks.front(), of_group[group]);
    }
  }

  void check(const Batch& batch, bool training) const {
    const std::size_t num_micro_batches = schedule_.num_micro_batches();
    const std::string rank = "rank " + std::to_string(transport_.rank());
    if (!batch.weights.empty() && batch.weights.size() != num_micro_batches)
      throw InvalidConfig(rank + ": " + std::to_string(batch.weights.size()) + " weights for " +
                          std::to_string(num_micro_batches) + " micro-batches");
    for (int m = 0; m < schedule_.num_micro_batches(); ++m) {
      const std::size_t index = m;
      if (holds(0, m) && (index >= batch.inputs.size() || batch.inputs[index].empty()))
        throw InvalidConfig(rank + " feeds micro-batch " + std::to_string(m) + ", whose inputs are missing");
      if (training && holds(schedule_.num_stages() - 1, m) && !batch.targets.empty() &&
          index >= batch.targets.size())
        throw InvalidConfig(rank + " computes the loss of micro-batch " + std::to_string(m) +
                            ", whose targets are missing");
    }
  }

  StepResult run(Executor& executor, const Batch& batch) {
    const BackwardOnThisThread backward_on_this_thread;
    const std::string rank = "rank " + std::to_string(transport_.rank());
    const Clock::time_point start = Clock::now();
    StepResult result;
    try {
      executor.run(batch, result);
    } catch (const PeerFailed& error) {
      throw StepFailed(rank + ": at " + executor.at() + ": " + waited(executor) + ended(executor, error));
    } catch (const std::exception& error) {
      const std::string text = rank + ": at " + executor.at() + ": " + waited(executor) + message_of(error);
      transport_.abort(text);
      throw StepFailed(text);
    }
    static_cast<void>(start);
    return result;
  }

  static std::string waited(const Executor& executor) {
    const Executor::Wait& wait = executor.waits_for();
    if (wait.from < 0) return {};
    return "waited for " + to_string(wait.producer) + " from rank " + std::to_string(wait.from) + ": ";
  }

  static std::string ended(const Executor&, const PeerFailed& error) { return error.what(); }

  Schedule schedule_;
  Schedule forward_schedule_;
  Transport& transport_;
  PipelineOptions options_;
  std::vector<std::int32_t> stage_numbers_;
  std::vector<std::shared_ptr<Stage>> stages_;
  std::unique_ptr<Executor> training_;
  std::unique_ptr<Executor> evaluation_;
};

Pipeline::Pipeline(Schedule schedule, Transport& transport, const StageFactory& make_stage,
                   PipelineOptions options)
    : impl_(std::make_unique<Impl>(std::move(schedule), transport, make_stage, std::move(options))) {}

Pipeline::~Pipeline() = default;

StepResult Pipeline::step(const Batch& batch) {
  return impl_->step(batch);
}

StepResult Pipeline::evaluate(const Batch& batch) {
  return impl_->evaluate(batch);
}

const std::vector<std::int32_t>& Pipeline::stages() const {
  return impl_->stages();
}

std::vector<NamedTensor> Pipeline::named_parameters() const {
  return impl_->named_parameters();
}

std::vector<at::Tensor> Pipeline::parameters() const {
  std::vector<at::Tensor> all;
  for (NamedTensor& parameter : impl_->named_parameters()) all.push_back(std::move(parameter.tensor));
  return all;
}

bool Pipeline::takes_input(int micro_batch) const {
  return impl_->holds(0, micro_batch);
}

bool Pipeline::takes_target(int micro_batch) const {
  return impl_->holds(impl_->schedule().num_stages() - 1, micro_batch);
}

}  // namespace counterflow::runtime
