// Makespan against memory: the best schedule that the search finds for each of several limits.
#pragma once

#include <cstdint>
#include <vector>

#include "counterflow/search.h"

namespace counterflow {

/// A schedule that none found is better than in both makespan and memory.
struct FrontierPoint {
  SearchResult result;
  Fraction activations;    ///< on the rank that holds most, of the request's unit
  std::int64_t bytes = 0;  ///< of the rank that needs most, rounded up; 0 where the costs have no bytes
};

struct Frontier {
  /// Whether the memory that was limited is bytes, or activations.
  bool in_bytes = false;

  /// By memory, the least first; the lower bound of each is of every schedule within its memory.
  std::vector<FrontierPoint> points;
};

/// Searches within the request's own limits, then within up to `limits` - 1 lower ones: of bytes where the
/// costs have activation_bytes, otherwise of activations. Seconds are for all together, rounds for each.
/// Throws InvalidConfig where search() would.
Frontier search_frontier(const SearchRequest& request, int limits = 8);

}  // namespace counterflow
