// Small changes of one rank's list: what a local search tries.
#pragma once

#include <optional>
#include <vector>

#include "problem.h"
#include "random.h"

namespace counterflow::searching {

/// `size` steps of a rank from `first` on become `steps`. Both have the same passes.
struct Change {
  int rank = 0;
  std::size_t first = 0;
  std::size_t size = 0;
  std::vector<Step> steps;
};

/// Changes the order and makes `change` the one that takes it back.
void apply(Order& order, Change& change);

/// Draws changes around a given step. Keeps buffers between calls. Used by one thread.
class Moves {
 public:
  explicit Moves(const Problem& problem) : problem_(problem) {}

  /// A change near a step, or null where what was drawn is none. The list may then break what fits() checks.
  /// Valid until the next call.
  Change* propose(const Order& order, int rank, std::size_t position, Random& random);

 private:
  using Kind = StepType::Kind;

  bool shift(Random& random, int reach);
  bool change_pair(Random& random);
  bool merge(Random& random);
  void split(Random& random);
  bool change_backward(Random& random);

  const StepType& type(int index) const { return problem_.type(window_[index]); }
  int size() const { return static_cast<int>(window_.size()); }
  bool erase_weight(int stage, int from);
  void insert_weight(int stage, int from, int reach, Random& random);

  const Problem& problem_;
  std::vector<Step> window_;  // the steps around the given one, edited in place
  int at_ = 0;                // its index there
  Change change_;
};

}  // namespace counterflow::searching
