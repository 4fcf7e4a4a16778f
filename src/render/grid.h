// Which column of text a time lies at: the terminal view's scale.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "counterflow/timeline.h"

namespace counterflow {

class Grid {
 public:
  /// Every time is a multiple of `unit`, which takes a whole number of columns.
  static Grid exact(Time unit, std::int64_t columns) { return {unit, columns, true}; }

  /// `time` takes `columns`; other times go to the nearest column.
  static Grid rounded(Time time, std::int64_t columns) { return {time, columns, false}; }

  std::int64_t column(Time time) const;

  /// The time at a column, rounded down.
  Time time(std::int64_t column) const;

  bool is_exact() const { return exact_; }

  /// A little wider, and exact if this is.
  Grid wider() const { return {time_, exact_ ? columns_ + 1 : columns_ + columns_ / 10 + 1, exact_}; }

  /// The fewest columns that a whole page should be cut into.
  std::int64_t step() const { return exact_ ? columns_ : 1; }

 private:
  Grid(Time time, std::int64_t columns, bool is_exact) : time_(time), columns_(columns), exact_(is_exact) {}

  Time time_;
  std::int64_t columns_;
  bool exact_;
};

/// The narrowest grid in which every label fits: exact where that costs little, otherwise rounded. Bars that
/// are far shorter than the others do not stretch it. `label_width` gives the columns of an action's label
/// with the gap after it; no grid is wider than `most_columns`.
Grid choose_grid(std::span<const Timeline> timelines, std::int64_t most_columns,
                 const std::function<int(const Action&)>& label_width);

}  // namespace counterflow
