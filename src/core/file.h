// Reads whole files.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "counterflow/schedule.h"

namespace counterflow {

/// The content of a file, or of standard input where `path` is "-". Throws Error where it cannot be read or
/// has more than `most_bytes`.
std::string read_text(const std::string& path, std::size_t most_bytes);

/// The content of a schedule's file, or of standard input where `path` is "-", without a byte order mark.
/// Throws Error.
std::string read_schedule_text(const std::string& path);

/// What read_file() makes of the content of the file at `path`. Throws ParseError.
Schedule parse_file(std::string_view text, const std::string& path);

}  // namespace counterflow
