#include "shortest_edit.h"

#include <algorithm>

namespace counterflow {
namespace {

/// For each diagonal k = (steps of a) - (steps of b), from -edits to edits, the most steps of `a` reached.
class Reach {
 public:
  explicit Reach(int edits) : edits_(edits), steps_(2 * static_cast<std::size_t>(edits) + 1, 0) {}

  int& operator[](int diagonal) { return steps_[diagonal + edits_]; }
  int operator[](int diagonal) const { return steps_[diagonal + edits_]; }

 private:
  int edits_;
  std::vector<int> steps_;
};

/// Whether the furthest way onto a diagonal with one more edit inserts a step of `b` (rather than drops one
/// of `a`).
bool inserts(const Reach& before, int edits, int diagonal) {
  return diagonal == -edits || (diagonal != edits && before[diagonal - 1] < before[diagonal + 1]);
}

/// Goes the way back from the ends of both lists.
std::vector<StepDifference> trace_back(const std::vector<Reach>& reached, int steps_of_a, int steps_of_b) {
  std::vector<StepDifference> found;
  int diagonal = steps_of_a - steps_of_b;
  for (int edits = static_cast<int>(reached.size()); edits > 0; --edits) {
    const Reach& before = reached[static_cast<std::size_t>(edits) - 1];
    if (inserts(before, edits, diagonal)) {
      ++diagonal;
      found.push_back({-1, before[diagonal] - diagonal});
    } else {
      --diagonal;
      found.push_back({before[diagonal], -1});
    }
  }
  std::reverse(found.begin(), found.end());
  return found;
}

}  // namespace

std::optional<std::vector<StepDifference>> shortest_edit(const std::vector<Action>& a,
                                                         const std::vector<Action>& b, int max_edits) {
  const int size_a = static_cast<int>(a.size());
  const int size_b = static_cast<int>(b.size());
  std::vector<Reach> reached;  // [edits]: what fewer edits than the current number reached
  for (int edits = 0; edits <= max_edits; ++edits) {
    Reach now(edits + 1);
    for (int diagonal = -edits; diagonal <= edits; diagonal += 2) {
      int step = 0;
      if (edits > 0) {
        const Reach& before = reached.back();
        step = inserts(before, edits, diagonal) ? before[diagonal + 1] : before[diagonal - 1] + 1;
      }
      while (step < size_a && step - diagonal < size_b && a[step] == b[step - diagonal]) ++step;
      now[diagonal] = step;
      if (step >= size_a && step - diagonal >= size_b) return trace_back(reached, size_a, size_b);
    }
    reached.push_back(std::move(now));
  }
  return std::nullopt;
}

}  // namespace counterflow
