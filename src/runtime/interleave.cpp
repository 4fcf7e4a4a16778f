#include <algorithm>
#include <deque>
#include <tuple>

#include "counterflow/runtime/pieces.h"

namespace counterflow::runtime {
namespace {

/// A step that could come next. Earlier ones go first; then those that wait longest; then W, which frees
/// memory, before I before F.
struct Candidate {
  int start;
  int ready;
  int preference;
  PieceStep step;
  Lane lane;

  bool operator<(const Candidate& other) const {
    return std::tie(start, ready, preference) < std::tie(other.start, other.ready, other.preference);
  }
};

}  // namespace

std::vector<PieceStep> interleave(const std::vector<Lane>& forward, const std::vector<Lane>& backward) {
  struct Weight {
    std::int32_t piece;
    int ready;
  };
  std::vector<PieceStep> order;
  std::deque<Weight> weights;
  int lane_free[2] = {0, 0};
  int forward_ready = 0;
  int backward_ready = 0;
  std::size_t next_forward = 0;
  std::size_t left_backward = backward.size();
  while (order.size() < forward.size() + 2 * backward.size()) {
    std::vector<Candidate> candidates;
    const auto offer = [&](Part part, std::int32_t piece, Lane lane, int ready, int preference) {
      candidates.push_back(
          {std::max(ready, lane_free[static_cast<int>(lane)]), ready, preference, {part, piece}, lane});
    };
    if (!weights.empty())
      offer(Part::kWeightGradient, weights.front().piece, backward[weights.front().piece],
            weights.front().ready, 0);
    if (left_backward > 0) {
      const auto piece = static_cast<std::int32_t>(left_backward - 1);
      offer(Part::kInputGradient, piece, backward[piece], backward_ready, 1);
    }
    if (next_forward < forward.size()) {
      const auto piece = static_cast<std::int32_t>(next_forward);
      offer(Part::kForward, piece, forward[piece], forward_ready, 2);
    }
    const Candidate next = *std::min_element(candidates.begin(), candidates.end());
    const bool is_empty =  // a piece of communication has no weights
        next.step.part == Part::kWeightGradient && next.lane == Lane::kCommunication;
    const int end = next.start + (is_empty ? 0 : 1);
    if (!is_empty) lane_free[static_cast<int>(next.lane)] = end;
    order.push_back(next.step);
    switch (next.step.part) {
      case Part::kForward:
        forward_ready = end;
        ++next_forward;
        break;
      case Part::kInputGradient:
        backward_ready = end;
        --left_backward;
        weights.push_back({next.step.piece, end});
        break;
      case Part::kWeightGradient:
        weights.pop_front();
        break;
    }
  }
  return order;
}

}  // namespace counterflow::runtime
