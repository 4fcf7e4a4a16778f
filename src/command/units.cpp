#include "units.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <limits>
#include <string_view>

#include "counterflow/error.h"

namespace counterflow::command {
namespace {

constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};

}  // namespace

std::string percent(double ratio) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", 100 * ratio);
  return text.data();
}

std::string plural(std::int64_t count, const std::string& noun, const std::string& ending) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : ending);
}

std::string bytes_text(std::int64_t bytes) {
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text.data();
}

std::int64_t parse_bytes(const std::string& text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  std::string_view suffix(rest, static_cast<std::size_t>(end - rest));
  if (!suffix.empty() && suffix.front() == ' ') suffix.remove_prefix(1);
  if (error == std::errc() && value >= 0) {
    std::int64_t factor = 1;
    for (const char* unit : kUnits) {
      if (suffix == unit || (factor == 1 && suffix.empty())) {
        if (value <= std::numeric_limits<std::int64_t>::max() / factor) return value * factor;
        break;
      }
      factor *= 1024;
    }
  }
  throw InvalidConfig("expected a number of bytes like 80GiB, found \"" + text.substr(0, 40) + "\"");
}

}  // namespace counterflow::command
