// Why a schedule does not run to its end: ranks that wait for each other in a circle.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "counterflow/schedule.h"

namespace counterflow {

/// A rank that is stuck at a step, for something that another step produces.
struct Wait {
  int rank = 0;
  std::size_t step = 0;
  Pass for_pass;     ///< what produces the input that is missing
  int for_rank = 0;  ///< where that would run
};

/// The shortest circle of waits where ranks stopped after `finished` actions each; empty where all came to
/// their end. Each wait's for_rank is the next wait's rank, the last's the first's. The schedule must have
/// all of its passes, each once and on its rank.
std::vector<Wait> shortest_cycle(const Schedule& schedule, const std::vector<std::size_t>& finished);

/// "rank 2 (at 2F3) waits for 1F3 from rank 1, which (at 1B0) waits for 2B0 from rank 2"; what lies between
/// the first and the last of more than 64 is only counted.
std::string describe(const Schedule& schedule, const std::vector<Wait>& cycle);

}  // namespace counterflow
