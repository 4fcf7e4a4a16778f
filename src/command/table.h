// A table of text with aligned columns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace counterflow::command {

class Table {
 public:
  enum class Align : std::uint8_t { kLeft, kRight };

  struct Column {
    std::string title;
    Align align = Align::kRight;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// One cell for each column.
  void add_row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  /// The title line and the rows, two spaces before each column, none at a line's end. On a terminal that is
  /// too narrow the columns that do not fit follow below, beside the first one again.
  std::string to_string() const;

 private:
  std::vector<std::size_t> widths() const;
  std::string lines_of(const std::vector<std::size_t>& shown, const std::vector<std::size_t>& widths) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace counterflow::command
