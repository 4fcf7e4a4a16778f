// Which stages have copies, whose gradients are summed.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "counterflow/placement.h"

namespace counterflow {

/// The stages that live on several ranks, by the set of those ranks.
inline std::map<std::vector<std::int32_t>, std::vector<std::int32_t>> shared_stages(
    const Placement& placement) {
  std::map<std::vector<std::int32_t>, std::vector<std::int32_t>> stages_of;
  if (placement.num_directions() == 1) return stages_of;
  for (int stage = 0; stage < placement.num_stages(); ++stage) {
    std::vector<std::int32_t> ranks = placement.ranks_of(stage);
    if (ranks.size() > 1) stages_of[std::move(ranks)].push_back(stage);
  }
  return stages_of;
}

}  // namespace counterflow
