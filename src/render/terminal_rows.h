// The rows of the terminal view: one timeline's bars as text, page after page.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/timeline.h"
#include "grid.h"
#include "labels.h"
#include "palette.h"

namespace counterflow {

/// ANSI's select-graphic-rendition sequences (ECMA-48, 8.3.117), or nothing without colour.
class Paint {
 public:
  explicit Paint(bool colour) : colour_(colour) {}

  std::string on(const Colour& colour, bool emphasis = false) const;
  std::string dim() const { return colour_ ? "\033[2m" : ""; }
  std::string bold() const { return colour_ ? "\033[1m" : ""; }
  std::string off() const { return colour_ ? "\033[0m" : ""; }
  explicit operator bool() const { return colour_; }

 private:
  bool colour_;
};

/// What stands in a bar, and its colour. Colour tells the pass, so that the number is enough.
class BarText {
 public:
  BarText(const Placement& placement, bool colour);

  std::string of(const Pass& pass) const;
  std::string of(const Action& action) const;
  const Colour& colour(const Pass& pass) const;

  /// Columns between a label and the next. A letter at its start tells it from the number before it.
  int gap() const { return colour_ || with_stage_ ? 1 : 0; }

 private:
  bool colour_;
  Shades shades_;
  bool with_stage_;
};

/// Columns of the grid, from `begin` to before `end`.
struct Page {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

class TerminalRows {
 public:
  TerminalRows(const Timeline& timeline, Grid grid, const Paint& paint);

  /// How many bars would have room for their label neither on a page that ends before `column` nor on the
  /// next.
  int labels_lost_at(std::int64_t column) const;

  /// One rank on the next page.
  std::string draw(std::size_t rank, const Page& page);

  /// Bars too short for a column on any page.
  std::int64_t num_not_drawn() const { return num_not_drawn_; }

  /// Bars too short for their label, on the pages so far.
  std::int64_t num_without_label() const { return num_without_label_; }

 private:
  /// A bar's columns, and the part of them on a page.
  struct Piece {
    std::int64_t begin = 0;  // of the bar
    std::int64_t end = 0;
    std::int64_t first = 0;  // of the part
    std::int64_t last = 0;
    bool is_critical = false;

    std::int64_t size() const { return last - first; }
  };

  /// Where the drawing of a rank stands.
  struct Row {
    std::size_t bar = 0;                // the first that is not drawn to its end
    bool is_labelled = false;           // that bar, on an earlier page
    std::int64_t column = 0;            // up to which the bars before it reach
    std::vector<std::size_t> critical;  // bars, ascending
  };

  std::string idle(std::int64_t columns) const;
  std::string draw(Row& row, const Action& action, const Piece& piece, const Page& page);
  std::string fill(const Action& action, const Piece& piece, const std::string& text) const;
  std::string label(const Action& action, const Piece& piece) const;
  std::string stretch(std::string text, std::int64_t columns) const;
  std::string part(const Pass& pass, const std::string& text, bool is_critical) const;
  std::int64_t label_width(const Action& action) const;

  const Timeline& timeline_;
  Grid grid_;
  const Paint& paint_;
  BarText text_;
  std::vector<Row> rows_;
  std::int64_t num_not_drawn_ = 0;
  std::int64_t num_without_label_ = 0;
};

}  // namespace counterflow
