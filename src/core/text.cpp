#include "text.h"

#include <algorithm>

#include "counterflow/error.h"

namespace counterflow {
namespace {

struct Position {
  std::size_t line;
  std::size_t column;
};

Position position_of(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto lines = static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n'));
  const std::size_t last_end = before.rfind('\n');
  const std::size_t line_begin = last_end == std::string_view::npos ? 0 : last_end + 1;
  return {lines + 1, before.size() - line_begin + 1};
}

}  // namespace

std::string Source::place(std::size_t offset) const {
  const Position position = position_of(text, offset);
  return "line " + std::to_string(position.line) + ", column " + std::to_string(position.column);
}

void Source::fail(std::size_t offset, const std::string& message) const {
  const Position position = position_of(text, offset);
  throw ParseError(file, position.line, position.column, message);
}

void append_escaped(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 0xf]};
    }
  }
}

std::string quote(std::string_view text) {
  constexpr std::size_t kMost = 40;
  std::string out = "\"";
  append_escaped(out, text.substr(0, kMost));
  out += text.size() > kMost ? "...\"" : "\"";
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string_view Lines::line(std::size_t length) const {
  std::string_view line = rest_.substr(0, length);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::string_view Lines::next() {
  const std::size_t length = rest_.find('\n');
  const std::string_view next = line(length);
  rest_.remove_prefix(length == std::string_view::npos ? rest_.size() : length + 1);
  return next;
}

void Cursor::expected(const std::string& what) const {
  const std::string_view found = rest().substr(0, rest().find(','));
  source_->fail(offset(), "expected " + what + ", found " +
                              (at_end() ? "the end of the line" : quote(found.empty() ? "," : found)));
}

}  // namespace counterflow
