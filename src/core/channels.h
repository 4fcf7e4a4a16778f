// The directed pairs of ranks that a placement makes exchange messages.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "counterflow/placement.h"
#include "counterflow/schedule.h"

namespace counterflow {

/// The directed pairs of different ranks between which neighbouring stages lie, sorted by sender, then
/// receiver.
class Channels {
 public:
  explicit Channels(const Placement& placement, Passes passes) : begin_(placement.num_ranks() + 1, 0) {
    for (const Direction& direction : placement.directions()) {
      for (int stage = 0; stage + 1 < placement.num_stages(); ++stage) {
        const std::int32_t rank = direction.rank_of_stage[stage];
        const std::int32_t next = direction.rank_of_stage[stage + 1];
        if (rank == next) continue;
        pairs_.emplace_back(rank, next);
        if (passes == Passes::kTraining) pairs_.emplace_back(next, rank);
      }
    }
    std::sort(pairs_.begin(), pairs_.end());
    pairs_.erase(std::unique(pairs_.begin(), pairs_.end()), pairs_.end());
    for (const auto& pair : pairs_) ++begin_[pair.first + 1];
    for (std::size_t rank = 1; rank < begin_.size(); ++rank) begin_[rank] += begin_[rank - 1];
  }

  int size() const { return static_cast<int>(pairs_.size()); }
  std::int32_t from(int channel) const { return pairs_[channel].first; }
  std::int32_t to(int channel) const { return pairs_[channel].second; }

  /// The channel from one rank to another; there must be one.
  int find(std::int32_t from, std::int32_t to) const {
    int channel = begin_[from];
    constexpr int kFew = 8;  // a rank has that many, but for odd placements: the search is short
    if (begin_[from + 1] - channel > kFew) {
      const auto first = pairs_.begin() + channel;
      const auto last = pairs_.begin() + begin_[from + 1];
      return static_cast<int>(std::lower_bound(first, last, std::pair(from, to)) - pairs_.begin());
    }
    while (pairs_[channel].second != to) ++channel;
    return channel;
  }

 private:
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs_;
  std::vector<std::int32_t> begin_;
};

}  // namespace counterflow
