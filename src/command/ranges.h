// Lists of whole numbers as an option takes them: 2, or 2,4, or 2-4.
#pragma once

#include <string>
#include <vector>

namespace counterflow::command {

/// "2,4-6": 2, 4, 5, 6; at most 64 numbers from 1 to `most`. Throws InvalidConfig that names the option.
std::vector<int> parse_ranges(const std::string& option, const std::string& text, int most);

}  // namespace counterflow::command
