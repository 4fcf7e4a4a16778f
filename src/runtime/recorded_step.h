// A training step that is recorded once and then done again: fixed places for what goes in and comes out.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "counterflow/runtime/pipeline.h"
#include "counterflow/runtime/recorder.h"

namespace counterflow::runtime {

class RecordedStep {
 public:
  /// The step itself: gradients go into parameters that have none.
  using Body = std::function<StepResult(const Batch&)>;

  /// `meet` waits for all ranks: none records while another has yet to finish a step, and none replays while
  /// another still records. Recording frees memory, which waits for the GPUs of all ranks of the process, and
  /// those for their peers. `replayed` is called after each replay is asked for.
  RecordedStep(StepRecorder& recorder, std::vector<at::Tensor> parameters, std::function<void()> meet,
               std::function<void()> replayed)
      : recorder_(recorder),
        parameters_(std::move(parameters)),
        meet_(std::move(meet)),
        replayed_(std::move(replayed)) {}

  /// The first step runs as it is, the second is recorded; that one and all later ones are replayed. `seeds`
  /// are those of this step's random scopes, all of them, in an order that is the same in every step. Throws
  /// InvalidConfig for a batch that is not like the recorded one, or is not where the parameters are, and
  /// where a parameter is no longer where it was.
  StepResult run(const Batch& batch, const std::vector<std::uint64_t>& seeds, const Body& body);

  /// The next step is recorded anew, if one was before.
  void record_again() { recorded_ = false; }

 private:
  void record(const Batch& batch, const std::vector<std::uint64_t>& seeds, const Body& body);
  std::vector<std::uint64_t> pick(const std::vector<std::uint64_t>& seeds) const;
  void refuse_host_tensors(const Batch& batch) const;
  void check_places() const;
  void fill(const Batch& batch);
  StepResult result() const;

  StepRecorder& recorder_;
  const std::vector<at::Tensor> parameters_;
  const std::function<void()> meet_;
  const std::function<void()> replayed_;
  bool warm_ = false;
  bool recorded_ = false;
  Batch batch_;                      ///< what the recorded step reads
  StepResult result_;                ///< what it writes
  Tensors gradients_;                ///< what it writes, by parameter
  at::Tensor losses_;                ///< of result_, in one tensor
  std::vector<const void*> places_;  ///< where the parameters were
  std::vector<std::size_t> scopes_;  ///< which of a step's seeds the recorder's are
};

}  // namespace counterflow::runtime
