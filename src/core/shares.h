// The costs of 1/P shares of a model as costs of the stages of a schedule on P ranks.
#pragma once

#include "counterflow/cost_model.h"

namespace counterflow {

/// The costs of the stages of a schedule that cuts each share into `parts`, in units of 1/parts of the given
/// costs' time and bytes. A part has 1/parts of its share's times and bytes: the same number in the finer
/// unit. Only what crosses between stages is not cut, and grows with the unit.
/// Throws InvalidConfig where numbers would pass 2^63.
CostModel cut_shares(const CostModel& shares, int num_shares, int parts);

}  // namespace counterflow
