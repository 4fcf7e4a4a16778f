// Walks one rank's lowered program: the inner loop of a step.
//
// Belongs to one thread. After an exception the executor must not be run again.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compute_streams.h"
#include "counterflow/program.h"
#include "counterflow/runtime/pipeline.h"
#include "stream_plan.h"
#include "timeline_recorder.h"
#include "visit.h"
#include "wide_gradients.h"

namespace counterflow::runtime {

class Executor {
 public:
  /// What the executors of a rank work with. The references outlive them.
  struct Setup {
    Transport& transport;
    const PipelineOptions& options;
    int first_rank = 0;                                 ///< of the transport's ranks: the schedule's rank 0
    const std::vector<std::int32_t>& stage_numbers;     ///< of this rank, ascending
    const std::vector<std::shared_ptr<Stage>>& stages;  ///< in that order
    const WideGradients* wide_gradients = nullptr;      ///< of these stages, if any are asked for
  };

  /// Runs this rank's part of `program`, which is the lowered `schedule`. Both outlive the executor.
  Executor(const Schedule& schedule, const Program& program, const Setup& setup);

  /// Whether each B is run as I and W, one after the other: what is recorded then tells them apart.
  void split_backward(bool split) { split_backward_ = split; }

  /// On how many streams of a GPU this rank computes from the next step on.
  void set_streams(int number);

  /// One step, recorded where `recorder` is not null. Weights come in filled. Gradients are summed over no
  /// copies: see Gradients.
  void run(const Batch& batch, std::int64_t step_number, StepResult& result,
           TimelineRecorder* recorder = nullptr);

  /// The most bytes that a micro-batch's outputs took in the last step, by this rank's stages.
  const std::vector<std::int64_t>& output_bytes() const { return output_bytes_; }

  /// This rank's actions, as text.
  const std::vector<std::string>& names() const { return names_; }

  /// The action at hand, as text.
  std::string action() const { return step_ < 0 ? "before the first action" : names_[step_]; }

  /// What the action at hand waits for.
  struct Wait {
    Pass producer;
    int from = 0;  ///< of the transport's ranks
    std::chrono::steady_clock::time_point since;
  };
  const std::optional<Wait>& waits_for() const { return waits_for_; }

 private:
  /// One micro-batch in one stage of this rank, and what waits for it or of it.
  struct Cell {
    std::int32_t forward_buffer = -1;   ///< in which the stage's input was posted
    std::int32_t backward_buffer = -1;  ///< the gradient of its output
    Message input;
    Tensors output_gradients;
    Message output;  ///< for the stage after
    Tensors input_gradients;
    std::optional<Visit> visit;
    ComputeStreams::Mark forward_done;  ///< where another stream may want to know
    ComputeStreams::Mark backward_done;
  };

  /// The first message of a stage's input or of its output's gradient: what others must be like.
  struct Shapes {
    Pass producer;
    Tensors like;
  };

  std::size_t index(int stage, int micro_batch) const {
    return static_cast<std::size_t>(stage) * schedule_.num_micro_batches() + micro_batch;
  }
  Cell& cell(int stage, int micro_batch) { return cells_[index(local_index_[stage], micro_batch)]; }
  bool holds(int stage, int micro_batch) const { return rank_of_[index(stage, micro_batch)] == rank_; }

  /// Where what concerns the pass's micro-batch and stage is computed. One stream alone has a timeline.
  int stream_of(int stage, int micro_batch) const {
    return streams_.active() && !recorder_ ? streams_of_[index(stage, micro_batch)] : 0;
  }
  int stream_of(const Pass& pass) const { return stream_of(pass.stage, pass.micro_batch); }

  Pass producer_of_gradient(int stage, int micro_batch) const;
  void post(const Instruction& instruction);
  void send(const Instruction& instruction);
  void fetch(const Pass& pass);
  /// `at` is the place of the action's instruction in the program.
  void run(const Action& action, std::size_t at);
  void run_in_turn(const Pass& forward, const Pass& backward, std::size_t at);
  void run(const Pass& pass);
  void send_early(const Pass& forward, std::size_t at);
  void forward(const Pass& pass);
  void backward(const Pass& pass);
  void overlap(const Pass& forward, const Pass& backward);
  void end_visit(const Pass& backward);
  void begin_sum(int stream);
  void end_sum(int stream);
  VisitSettings settings_of(const Pass& forward) const;
  void keep(const Pass& forward, Visit visit);
  const Tensors& gradients_for(const Pass& backward);
  Message receive(int buffer, const Pass& producer, std::optional<Shapes>& expected);
  void check_loss(const Pass& pass, const at::Tensor& loss) const;

  const Schedule& schedule_;
  const Program& program_;
  const Setup setup_;
  const int rank_;  ///< of the schedule
  const int last_stage_;
  const bool training_;
  std::vector<std::string> names_;         ///< of this rank's actions
  std::vector<std::int32_t> rank_of_;      ///< [index(stage, micro-batch)]
  std::vector<PassKind> gradient_kind_;    ///< [index(stage, micro-batch)]: B or I
  std::vector<std::int32_t> local_index_;  ///< [stage]: of this rank's stages
  std::vector<char> recompute_;            ///< [stage]
  ComputeStreams streams_{c10::kCPU, 1};
  std::vector<std::int32_t> streams_of_;  ///< [index(stage, micro-batch)]
  bool has_buffers_ = false;              ///< which forwards may write to

  std::vector<Cell> cells_;
  std::vector<std::optional<Shapes>> input_shapes_;     ///< [local stage]
  std::vector<std::optional<Shapes>> gradient_shapes_;  ///< [local stage]
  std::vector<std::int64_t> output_bytes_;              ///< [local stage]
  const Batch* batch_ = nullptr;
  StepResult* result_ = nullptr;
  TimelineRecorder* recorder_ = nullptr;
  bool split_backward_ = false;
  std::int64_t step_number_ = 0;
  std::size_t sent_early_ = 0;  ///< the instruction, of those after the action at hand
  int step_ = -1;               ///< of the action at hand
  std::optional<Wait> waits_for_;

  /// The last pass of a kind that has to come after the one before, and its stream.
  struct Last {
    ComputeStreams::Mark done;
    int stream = -1;
  };
  Last sum_;      ///< that added to gradients
  Last forward_;  ///< of stages with buffers
};

}  // namespace counterflow::runtime
