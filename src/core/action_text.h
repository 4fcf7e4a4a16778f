// Writes the actions of schedules.
#pragma once

#include <string>

#include "counterflow/schedule.h"

namespace counterflow {

/// Appends what to_string() gives, without allocating for each action.
void append_action(std::string& out, const Action& action);

/// Appends a line for each rank, its actions with commas between them. Throws InvalidConfig for what a file
/// cannot hold: a negative number, a pair that is no F and B, another number of lists than ranks.
void append_rows(std::string& out, const Schedule& schedule);

}  // namespace counterflow
