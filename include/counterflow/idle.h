// Where the idle time of a real run went.
#pragma once

#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/schedule.h"
#include "counterflow/timeline.h"

namespace counterflow {

/// One for each rank. `schedule` is what the run followed; backwards may have run as I and W. Throws
/// InvalidConfig where the run has another placement or lacks actions of it (see check_follows()).
std::vector<IdleSplit> split_idle(const Timeline& run, const Schedule& schedule);

/// The run's own mean times of F, I, W, pairs and messages, the same for all stages, in the run's unit. Where
/// no I and W ran, each is half of B. Messages that were there before they were wanted do not count.
CostModel mean_costs(const Timeline& run);

/// Throws InvalidConfig, naming the first difference, where a run is not one of a schedule: another
/// placement, or a rank that did not run the schedule's passes in their order.
void check_follows(const Timeline& run, const Schedule& schedule);

}  // namespace counterflow
