// The ground under the readers: a text whose errors name file:line:column, and a cursor over a part of it.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace counterflow {

/// A text and the name that errors show for it. Places are byte offsets; line and column are counted only
/// when an error needs them.
struct Source {
  std::string_view text;
  const std::string& file;

  /// The offset of a part of the text.
  std::size_t offset_of(std::string_view part) const {
    return static_cast<std::size_t>(part.data() - text.data());
  }

  /// "line 3, column 7".
  std::string place(std::size_t offset) const;

  [[noreturn]] void fail(std::size_t offset, const std::string& message) const;
};

/// What an error shows of a text: in quotes, control characters escaped, the end cut off where it is long.
std::string quote(std::string_view text);

/// Appends `text` with every byte that is not printable ASCII written as \xHH.
void append_escaped(std::string& out, std::string_view text);

/// `text` as UTF-8 that every XML and JSON reader takes: each byte that is none becomes U+FFFD.
std::string valid_utf8(std::string_view text);

constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t';
}
constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
std::string_view trim(std::string_view text);

/// Hands out the lines of a text without their ends, which are "\n" or "\r\n".
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}

  bool at_end() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }
  std::string_view peek() const { return line(rest_.find('\n')); }
  std::string_view next();

 private:
  std::string_view line(std::size_t length) const;

  std::string_view rest_;
};

/// Reads a part of a text from left to right.
class Cursor {
 public:
  Cursor(const Source& source, std::string_view part)
      : source_(&source), next_(part.data()), end_(part.data() + part.size()) {}

  bool at_end() const { return next_ == end_; }
  char peek() const { return at_end() ? '\0' : *next_; }
  std::string_view rest() const { return {next_, static_cast<std::size_t>(end_ - next_)}; }
  std::size_t offset() const { return static_cast<std::size_t>(next_ - source_->text.data()); }

  bool accept(char c) {
    if (at_end() || *next_ != c) return false;
    ++next_;
    return true;
  }
  bool accept(std::string_view word) {
    if (!rest().starts_with(word)) return false;
    next_ += word.size();
    return true;
  }
  void skip_blanks() {
    while (!at_end() && is_blank(*next_)) ++next_;
  }

  /// Digits: a number from `least` to `most`. `what` says of what, for the error.
  template <typename Int = std::int32_t>
  Int number(const char* what, Int least = 0, Int most = std::numeric_limits<Int>::max()) {
    Int value{};
    const auto [end, error] = std::from_chars(next_, end_, value);
    if (!is_digit(peek()) || error != std::errc() || value < least || value > most) {
      expected(what + (least == most ? ' ' + std::to_string(least)
                                     : " from " + std::to_string(least) + " to " + std::to_string(most)));
    }
    next_ = end;
    return value;
  }

  /// Throws: what was expected here, and what is here up to the next comma.
  [[noreturn]] void expected(const std::string& what) const;

 private:
  const Source* source_;
  const char* next_;
  const char* end_;
};

}  // namespace counterflow
