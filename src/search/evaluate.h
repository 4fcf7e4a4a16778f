// How long an order takes: what a search asks millions of times.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "problem.h"

namespace counterflow::search {

constexpr Time kNever = std::numeric_limits<Time>::max() / 4;

/// Keeps its tables between calls. Used by one thread.
class Evaluator {
 public:
  explicit Evaluator(const Problem& problem);

  /// The makespan, or kNever where the order deadlocks. The order must have every pass once, on its stage's
  /// rank, each F before its gradient and each gradient before its W.
  Time evaluate(const Order& order);

  /// After evaluate(): when a step started.
  Time start(int rank, std::size_t position) const { return start_[rank][position]; }

  /// After evaluate() that did not end in kNever: the steps of a critical path, the last first.
  struct Place {
    std::int32_t rank = 0;
    std::int32_t position = 0;
  };
  const std::vector<Place>& critical_path(const Order& order);

 private:
  bool run(const Order& order, int rank);
  Time ready(const Step& step, int& lacks) const;

  const Problem& problem_;
  std::vector<Time> forward_end_;                   // [stage * micro-batches + micro-batch]
  std::vector<Time> gradient_end_;                  // the same
  std::vector<std::int32_t> forwards_, gradients_;  // [stage] how many have run
  std::vector<std::size_t> position_;               // [rank]
  std::vector<Time> free_;                          // [rank]
  std::vector<std::vector<Time>> start_;
  std::vector<std::int32_t> awake_;
  std::vector<std::int32_t>
      waits_for_;  // [rank] the stage whose next output or gradient it lacks, encoded; -1: none
  std::vector<std::int32_t> forward_at_, gradient_at_;  // [stage * micro-batches + micro-batch] positions
  std::vector<Place> path_;
};

}  // namespace counterflow::search
