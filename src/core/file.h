// Reads whole files.
#pragma once

#include <cstddef>
#include <string>

namespace counterflow {

/// The content of a file, or of standard input where `path` is "-". Throws Error where it cannot be read or
/// has more than `most_bytes`.
std::string read_text(const std::string& path, std::size_t most_bytes);

}  // namespace counterflow
