#include "table.h"

#include <algorithm>

#include "terminal.h"

namespace counterflow::command {
namespace {

/// Characters of a UTF-8 text: those bytes that do not continue one.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::vector<std::size_t> Table::widths() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    widths.push_back(width(columns_[c].title));
    for (const auto& row : rows_) widths[c] = std::max(widths[c], width(row[c]));
  }
  return widths;
}

std::string Table::lines_of(const std::vector<std::size_t>& shown,
                            const std::vector<std::size_t>& widths) const {
  std::string text;
  const auto add_line = [&](const auto& cell_of) {
    std::string line;
    for (const std::size_t c : shown) {
      const std::string& cell = cell_of(c);
      const std::string padding(widths[c] - width(cell), ' ');
      line += "  " + (columns_[c].align == Align::kLeft ? cell + padding : padding + cell);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_line([&](std::size_t c) -> const std::string& { return columns_[c].title; });
  for (const auto& row : rows_) add_line([&](std::size_t c) -> const std::string& { return row[c]; });
  return text;
}

std::string Table::to_string() const {
  const std::size_t limit = line_limit();
  const std::vector<std::size_t> widths = this->widths();
  std::string text;
  std::size_t next = 1;
  do {
    std::vector<std::size_t> shown = {0};
    for (std::size_t line = 2 + widths[0]; next < columns_.size(); ++next) {
      line += 2 + widths[next];
      if (line > limit && shown.size() > 1) break;
      shown.push_back(next);
    }
    text += (text.empty() ? "" : "\n") + lines_of(shown, widths);
  } while (next < columns_.size());
  return text;
}

}  // namespace counterflow::command
