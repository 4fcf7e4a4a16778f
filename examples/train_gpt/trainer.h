// One rank's part of a training run.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "counterflow/runtime/checkpoint.h"
#include "counterflow/runtime/pipeline.h"
#include "optimizer.h"
#include "options.h"
#include "text.h"

namespace train_gpt {

/// Every rank makes one with equal arguments and its own end of the transport, and makes the same calls. Used
/// by one thread. Everything outlives it.
class Trainer {
 public:
  /// With a recorder, this rank's own, steps are recorded and replayed.
  Trainer(const Options& options, const Text& text, const counterflow::Schedule& schedule,
          counterflow::runtime::Transport& transport,
          std::shared_ptr<counterflow::runtime::StepRecorder> recorder = {});

  /// One optimizer step.
  void step();

  /// Collective: the mean loss of the last step's batch.
  double loss() { return pipeline_.total_loss(last_); }

  /// The mean loss on held-out text.
  double held_out_loss();

  /// Goes on from pieces of held-out text, as many as the schedule has micro-batches.
  std::vector<std::string> sample();

  /// Whether there is a timeline of the last step: not of one that was replayed.
  bool has_timeline() const { return has_timeline_; }

  /// Collective: what the ranks did in the last step.
  counterflow::Timeline timeline() { return pipeline_.timeline(); }

  /// Collective: what each stage takes, from steps that train nothing.
  counterflow::CostModel profile();

  /// Saves the run in Options::checkpoint and returns the checkpoint's folder.
  std::string save();

  std::int64_t num_steps() const { return num_steps_; }  ///< taken, those before a resumption included
  std::int64_t first_step() const { return first_step_; }
  std::int64_t first_position() const { return first_position_; }

  /// The losses of all micro-batches in the first Options::check_steps steps.
  const std::vector<std::vector<float>>& first_losses() const { return first_losses_; }

 private:
  /// What a checkpoint holds of this rank's stages.
  std::vector<counterflow::runtime::StageTensors> tensors() const;
  void resume();

  const Options& options_;
  const Text& text_;
  counterflow::runtime::Transport& transport_;
  counterflow::runtime::Pipeline pipeline_;
  const bool has_timeline_;
  counterflow::runtime::StepResult last_;  ///< of the last step
  std::vector<AdamW> optimizers_;          ///< of this rank's stages
  std::int64_t first_step_ = 0, num_steps_ = 0;
  std::int64_t first_position_ = 0, position_ = 0;  ///< sequences drawn from the text
  std::vector<std::vector<float>> first_losses_;
};

}  // namespace train_gpt
