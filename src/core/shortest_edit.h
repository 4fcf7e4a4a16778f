// The fewest drops and insertions that make one list of actions another.
#pragma once

#include <optional>
#include <vector>

#include "counterflow/action.h"
#include "counterflow/diff.h"

namespace counterflow {

/// The actions that only one list has, in order, where there are at most `max_edits` of them. By E. Myers,
/// "An O(ND) Difference Algorithm and Its Variations" (1986), section 4: time grows with the lists' length
/// times the number of edits, memory with the square of the latter.
std::optional<std::vector<StepDifference>> shortest_edit(const std::vector<Action>& a,
                                                         const std::vector<Action>& b, int max_edits);

}  // namespace counterflow
