// The plan that a real run is laid beside.
#pragma once

#include "cost_options.h"
#include "counterflow/schedule.h"
#include "counterflow/timeline.h"

namespace counterflow::command {

/// The schedule under the costs that were given, in microseconds, or else under the run's own mean times.
Timeline plan_of(const Timeline& run, const Schedule& schedule, const CostOptions& costs);

}  // namespace counterflow::command
