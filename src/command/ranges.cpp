#include "ranges.h"

#include <charconv>

#include "counterflow/error.h"

namespace counterflow::command {

std::vector<int> parse_ranges(const std::string& option, const std::string& text, int most) {
  constexpr std::size_t kMostNumbers = 64;  // each is tried
  std::vector<int> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto read = [&](int& number) {
    const auto [rest, error] = std::from_chars(at, end, number);
    at = rest;
    return error == std::errc() && number >= 1 && number <= most;
  };
  while (true) {
    int first = 0;
    bool good = read(first);
    int last = first;
    if (good && at != end && *at == '-') {
      ++at;
      good = read(last);
    }
    if (!good || last < first || numbers.size() + (last - first) >= kMostNumbers ||
        (at != end && *at != ',')) {
      throw InvalidConfig(option + ": expected at most " + std::to_string(kMostNumbers) +
                          " numbers or ranges like 2,4-6, found \"" + text.substr(0, 40) + "\"");
    }
    for (int number = first; number <= last; ++number) numbers.push_back(number);
    if (at == end) return numbers;
    ++at;
  }
}

}  // namespace counterflow::command
