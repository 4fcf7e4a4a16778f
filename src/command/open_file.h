// Shows a file in the program that the desktop has for it.
#pragma once

#include <string>

namespace counterflow::command {

/// Opens a file with the desktop's own opener (xdg-open, or open on macOS). False where there is no desktop
/// or it would not.
bool open_file(const std::string& path);

}  // namespace counterflow::command
