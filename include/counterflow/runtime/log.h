// One line an event, the rank in front. Quiet by default: only warnings and errors are shown.
//
// Goes through spdlog; the environment variable COUNTERFLOW_LOG (trace, debug, info, warn, error, off) sets
// the level at start. Safe to call from any thread.
#pragma once

#include <string_view>

namespace counterflow::runtime {

enum class LogLevel { kTrace, kDebug, kInfo, kWarn, kError, kOff };

void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);

/// Writes "rank 2: message" to standard error; no rank in front where `rank` is negative.
void log(LogLevel level, int rank, std::string_view message);

}  // namespace counterflow::runtime
