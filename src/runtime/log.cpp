// No torch in this file: its copy of fmt and spdlog's are different libraries.
#include "counterflow/runtime/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace counterflow::runtime {
namespace {

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

/// A logger of our own, so that the program's spdlog settings stay the program's.
spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("counterflow",
                                                 std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("%H:%M:%S.%e %^%l%$ %v");
    made->set_level(spdlog::level::warn);
    if (const char* wanted = std::getenv("COUNTERFLOW_LOG")) made->set_level(spdlog::level::from_str(wanted));
    return made;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel level) {
  logger().set_level(level_of(level));
}

bool log_enabled(LogLevel level) {
  return logger().should_log(level_of(level));
}

void log(LogLevel level, int rank, std::string_view message) {
  if (rank < 0)
    logger().log(level_of(level), "{}", message);
  else
    logger().log(level_of(level), "rank {}: {}", rank, message);
}

}  // namespace counterflow::runtime
