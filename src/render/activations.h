// How many activations and bytes a rank holds while its bars run.
#pragma once

#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/timeline.h"

namespace counterflow {

/// The samples of one rank. The bars are in the order in which they ran.
std::vector<ActivationSample> count_activations(const std::vector<Bar>& bars, const CostModel& costs,
                                                Passes passes);

}  // namespace counterflow
