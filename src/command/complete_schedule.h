// Reads schedules that are worth simulating.
#pragma once

#include <string>

#include "counterflow/schedule.h"

namespace counterflow::command {

/// Reads a schedule file, or standard input where `file` is "-". Throws ParseError, Error where it cannot be
/// read, and InvalidConfig where the schedule leaves out work or cannot run: its times would say nothing.
Schedule read_complete_schedule(const std::string& file);

}  // namespace counterflow::command
