// How large a schedule a file may claim to hold.
#pragma once

#include <cstdint>
#include <string>

#include "counterflow/schedule.h"

namespace counterflow {

/// What is too large for a file with so many actions, as the end of an error ("expected at most …"); empty
/// where nothing is. Whatever uses a schedule needs memory for every stage x micro-batch and every direction
/// x rank. Real files have about one action for each; a few bytes of hostile text must not claim gigabytes.
inline std::string excess(std::int64_t stages, std::int64_t micro_batches, std::int64_t directions,
                          std::int64_t ranks, std::int64_t actions, std::int64_t claims) {
  constexpr std::int64_t kFree = 1 << 20;
  constexpr std::int64_t kPerAction = 4;
  const auto judge = [&](std::int64_t cells, const char* what) -> std::string {
    const std::int64_t most = kFree + kPerAction * actions;
    if (cells <= most) return {};
    return "expected at most " + std::to_string(most) + what + " (" + std::to_string(kPerAction) +
           " for each action and " + std::to_string(kFree) + " more), found " + std::to_string(cells);
  };
  constexpr std::int64_t kMostDirections = 64;  // Placement::direction_of() tries them in turn
  if (directions > kMostDirections) {
    return "expected at most " + std::to_string(kMostDirections) + " directions, found " +
           std::to_string(directions);
  }
  constexpr std::int64_t kMostClaims = 64;  // check_claims() simulates each
  if (claims > kMostClaims) {
    return "expected at most " + std::to_string(kMostClaims) + " claims, found " + std::to_string(claims);
  }
  const std::string cells = judge(stages * micro_batches, " stages x micro-batches");
  return cells.empty() ? judge(directions * ranks, " directions x ranks") : cells;
}

inline std::string excess(const Schedule& schedule) {
  std::int64_t actions = 0;
  for (const auto& list : schedule.actions) actions += static_cast<std::int64_t>(list.size());
  return excess(schedule.num_stages(), schedule.num_micro_batches(), schedule.placement.num_directions(),
                schedule.num_ranks(), actions, static_cast<std::int64_t>(schedule.claims.size()));
}

}  // namespace counterflow
