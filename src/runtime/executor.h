// Walks one rank's lowered program: the inner loop of a step.
//
// Belongs to one thread. After an exception the executor must not be run again.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "counterflow/program.h"
#include "counterflow/runtime/pipeline.h"
#include "weight_split.h"

namespace counterflow::runtime {

class Executor {
 public:
  /// What every executor of a rank works with. Outlives it.
  struct Surroundings {
    Transport& transport;
    const std::vector<std::int32_t>& stage_numbers;     ///< of this rank, ascending
    const std::vector<std::shared_ptr<Stage>>& stages;  ///< in that order
    const PipelineOptions& options;
  };

  /// The program of this rank for a schedule, whose lowering `program` is.
  Executor(const Schedule& schedule, const Program& program, Surroundings surroundings);

  void run(const Batch& batch, StepResult& result);

  /// The action at hand, as text; "before the first action" where there was none yet.
  std::string at() const;

  /// What the action at hand waits for; from is -1 where it waits for nothing.
  struct Wait {
    Pass producer;
    int from = -1;
  };
  const Wait& waits_for() const { return waits_for_; }

 private:
  /// Where a posted message will be.
  struct Posted {
    std::int32_t from = -1;
    std::int32_t buffer = -1;
  };

  /// One micro-batch in one stage of this rank.
  struct Cell {
    Posted forward_posted;
    Posted backward_posted;
    Message input;                ///< from the stage before
    Tensors output_gradients;     ///< from the stage after
    Message output;               ///< for the stage after, until it is sent
    Tensors input_gradients;      ///< for the stage before, until they are sent
    std::size_t num_outputs = 0;  ///< of the stage's forward
    StageGraph graph;
  };

  Cell& cell(int stage, int micro_batch);
  bool holds(int stage, int micro_batch) const;
  Pass producer_of(const Instruction& receive) const;

  void compute(const Action& action, const std::string& name);
  void fetch(const Pass& pass);
  void run(const Pass& pass);
  void forward(const Pass& pass);
  void backward(const Pass& pass);
  at::Tensor loss_of(int micro_batch, const Tensors& outputs);
  Message receive(Posted& posted, const Pass& producer);
  void post(const Instruction& instruction);
  void send(const Instruction& instruction);
  void reduce(std::size_t begin, std::size_t end);

  const Schedule& schedule_;
  const int rank_;
  const int num_stages_;
  const bool training_;
  const std::vector<Instruction> instructions_;
  std::vector<Wiring::Channel> channels_;
  std::vector<std::string> names_;         ///< of the rank's actions
  std::vector<PassKind> gradient_kinds_;   ///< [stage * micro-batches + micro-batch]: B or I
  std::vector<std::int32_t> local_index_;  ///< [stage]: of this rank's stages, or -1
  Surroundings with_;

  std::vector<Cell> cells_;
  const Batch* batch_ = nullptr;
  StepResult* result_ = nullptr;
  std::vector<double> weights_;
  int step_ = -1;  ///< of the action at hand
  Wait waits_for_;
};

}  // namespace counterflow::runtime
