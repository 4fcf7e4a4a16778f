// A lowered program as text and as JSON.
#pragma once

#include <string>

#include "counterflow/program.h"
#include "counterflow/schedule.h"

namespace counterflow::command {

/// The schedule's file with the transfers and reductions in each rank's line, spelt as PyTorch does, and a
/// comment for each communicator. It reads back as the schedule (parse()) and as the program
/// (parse_program()).
std::string program_text(const Schedule& schedule, const Program& program);

std::string program_json(const Schedule& schedule, const Program& program);

}  // namespace counterflow::command
