// Who sums which gradients: over the copies of a stage, over replicas, over tied parameters.
//
// Belongs to one rank's thread. equalise() and end_step() are collective.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "counterflow/placement.h"
#include "counterflow/runtime/pipeline.h"

namespace counterflow::runtime {

class Gradients {
 public:
  /// The transport's groups that the sums need; the same on all ranks.
  static std::vector<std::vector<std::int32_t>> groups(const Placement& placement,
                                                       const PipelineOptions& options);

  /// `stages` are those of this rank, by their numbers in `stage_numbers`. Throws InvalidConfig for a tie of
  /// parameters that are not there.
  Gradients(const Placement& placement, const PipelineOptions& options, Transport& transport,
            const std::vector<std::int32_t>& stage_numbers,
            const std::vector<std::shared_ptr<Stage>>& stages);

  /// Makes all copies of a parameter or buffer equal, and all members of a tie.
  void equalise();

  /// Puts aside the gradients that there are, so that only this step's are summed.
  void begin_step();

  /// Sums this step's gradients and adds what was put aside; gives all copies the first one's buffers.
  void end_step();

  /// The sum of the squares of the gradients that this rank counts: over all ranks, each parameter once.
  double squared_norm() const;

 private:
  /// Tensors that all ranks of a group have, in the same order.
  struct Copies {
    int group = 0;
    int root = 0;  ///< the first rank, whose tensors all start from
    Tensors parameters;
    Tensors buffers;
  };

  /// What this rank has of a tie.
  struct Tied {
    int group = -1;       ///< or -1: each of the ranks has all members
    int root = -1;        ///< the rank whose first member all start from
    Tensors members;      ///< here, each tensor once, the first member in front if it is here
    Tensors contributed;  ///< those that this rank brings to the sum
  };

  struct Model;

  void add_copies(const Model& model);
  void add_tie(const Model& model, const Tie& tie);
  void count(const Model& model);
  void sum(const Copies& copies);
  void sum(const Tied& tied);

  Transport& transport_;
  std::vector<Copies> copies_;
  std::vector<Tied> ties_;
  Tensors summed_;     ///< all parameters of the above, each once
  Tensors put_aside_;  ///< their gradients from before the step
  Tensors counted_;    ///< in the norm, by this rank
};

}  // namespace counterflow::runtime
