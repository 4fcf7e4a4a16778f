// When passes can start at the earliest and what must still come after them, whatever the order: bounds that
// see how ranks, short of memory or of time, keep each other waiting.
#pragma once

#include <vector>

#include "problem.h"

namespace counterflow::searching {

/// The least makespan that follows from them. Costs grow with ranks x passes of a rank x micro-batches looked
/// at; of many only the first (and last) are.
Time windows_bound(const Problem& problem);

/// [hop] The least time from the start of a hop's forward or gradient to its end.
std::vector<Time> least_times(const Problem& problem);

/// [hop][micro-batch] The least time from the end of a hop's forward or gradient to the end of the schedule.
std::vector<std::vector<Time>> least_tails(const Problem& problem);

}  // namespace counterflow::searching
