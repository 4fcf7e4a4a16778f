#include "checks.h"

#include <charconv>
#include <string>
#include <system_error>

namespace counterflow::command {
namespace {

template <typename Number>
bool read(const std::string& text, Number& number) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && rest == end;
}

std::string expected(const std::string& what, const std::string& found) {
  return "expected " + what + ", found \"" + found.substr(0, 40) + "\"";
}

}  // namespace

CLI::Validator whole_number(std::int64_t least, std::int64_t most) {
  const auto check = [least, most](const std::string& text) -> std::string {
    std::int64_t number = 0;
    const bool is_octal = text.size() > 1 && text.front() == '0';
    if (read(text, number) && !is_octal && number >= least && number <= most) return "";
    return expected("a whole number from " + std::to_string(least) + " to " + std::to_string(most), text);
  };
  return CLI::Validator(check, "");
}

CLI::Validator seconds() {
  const auto check = [](const std::string& text) -> std::string {
    double number = -1;
    if (read(text, number) && number >= 0 && number <= kMaxCount) return "";
    return expected("a number of seconds from 0 to " + std::to_string(kMaxCount), text);
  };
  return CLI::Validator(check, "");
}

CLI::Validator ratio() {
  const auto check = [](const std::string& text) -> std::string {
    double number = -1;
    if (read(text, number) && number >= 0 && number <= 1) return "";
    return expected("a number from 0 to 1", text);
  };
  return CLI::Validator(check, "");
}

}  // namespace counterflow::command
