// Where two schedules differ in what their ranks do. Names and claims are no part of that: a schedule read
// from PyTorch's CSV equals the one it was written from. Safe to call from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/schedule.h"

namespace counterflow {

/// Steps of the two lists that differ: -1 where only the other list has the action.
struct StepDifference {
  std::int32_t a = -1;
  std::int32_t b = -1;

  friend bool operator==(const StepDifference&, const StepDifference&) = default;
};

/// A rank whose actions differ. What lies between two differences is the same in both lists.
struct RankDifference {
  std::int32_t rank = 0;
  std::vector<StepDifference> steps;  ///< in order; step by step, or with the fewest drops and insertions
  bool reordered = false;             ///< both lists hold the same actions
};

struct Difference {
  /// Sizes, directions, placement: "ranks: 4 and 8".
  std::vector<std::string> shape;
  std::vector<RankDifference> ranks;  ///< ascending; those that both schedules have

  bool empty() const { return shape.empty() && ranks.empty(); }
};

Difference diff(const Schedule& a, const Schedule& b);

/// Readable, a few lines a rank, at most `max_ranks` of them: the first steps that differ below each other,
/// as many as fit in `max_width` columns, at least one. The names stand for the two schedules. Empty where
/// nothing differs.
std::string draw(const Difference& difference, const Schedule& a, const Schedule& b,
                 const std::string& name_a, const std::string& name_b,
                 std::size_t max_width = std::string::npos, int max_ranks = 16);

}  // namespace counterflow
