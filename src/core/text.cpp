#include "text.h"

#include <algorithm>

#include "counterflow/error.h"
#include "counterflow/format.h"

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

/// The bytes of the character of UTF-8 that the text begins with, and 0 where it begins with none: RFC 3629
/// section 4, less the two that XML 1.0 section 2.2 leaves out.
std::size_t character_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool surrogate = first == 0xed && byte(1) >= 0xa0;
  const bool too_large = first == 0xf4 && byte(1) >= 0x90;
  const bool no_xml = first == 0xef && byte(1) == 0xbf && byte(2) >= 0xbe;
  return overlong || surrogate || too_large || no_xml ? 0 : length;
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

std::string valid_utf8(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    out += length > 0 ? text.substr(0, length) : "\xef\xbf\xbd";
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

std::string printable(std::string_view name) {
  constexpr std::size_t kMost = 4096;  // as long as a path may be
  std::string out;
  const std::string valid = valid_utf8(name.substr(0, kMost));
  for (std::size_t i = 0; i < valid.size(); ++i) {
    const auto byte = static_cast<unsigned char>(valid[i]);
    // U+0080 to U+009F are two bytes, and control characters to many terminals.
    const bool is_late = byte == 0xc2 && static_cast<unsigned char>(valid[i + 1]) < 0xa0;
    const bool is_control = byte < 0x20 || byte == 0x7f || is_late;
    out += is_control ? '?' : valid[i];
    if (is_late) ++i;
  }
  return name.size() > kMost ? out + "..." : out;
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
