// A simulation as text and as JSON.
#pragma once

#include <string>

#include "counterflow/schedule.h"
#include "counterflow/simulate.h"

namespace counterflow::command {

/// A table of the ranks and what the whole comes to; with `critical_path` also that path, an action a line.
std::string simulation_text(const Schedule& schedule, const Simulation& run, const std::string& costs,
                            bool critical_path);

std::string simulation_json(const Schedule& schedule, const Simulation& run);

}  // namespace counterflow::command
