// Numbers as people read and write them.
#pragma once

#include <cstdint>
#include <string>

namespace counterflow::command {

/// "9.1 %".
std::string percent(double ratio);

/// "3 ranks", "1 rank".
std::string plural(std::int64_t count, const std::string& noun, const std::string& ending = "s");

/// "1.5 GiB", "512 B".
std::string bytes_text(std::int64_t bytes);

/// Reads "80GiB", "512 MiB", "1000". Throws InvalidConfig.
std::int64_t parse_bytes(const std::string& text);

}  // namespace counterflow::command
