#include "grid.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace counterflow {
namespace {

/// An exact grid may be this much wider than the labels need.
constexpr double kExactStretch = 1.5;

/// The columns that a grid may have for each bar of its longest row.
constexpr double kMostColumnsPerBar = 40;

struct Needs {
  Time unit = 0;  // the greatest common divisor of all times
  Time end = 0;
  double columns_per_unit = 1;  // with which every label fits
  double columns_per_time = 0;  // the same, with a column to spare for rounding
  double longest_row = 1;       // bars
};

Needs needs_of(std::span<const Timeline> timelines, const std::function<int(const Action&)>& label_width) {
  Needs needs;
  for (const Timeline& timeline : timelines) {
    needs.end = std::max(needs.end, timeline.end());
    for (const RankTimeline& rank : timeline.ranks) {
      needs.longest_row = std::max(needs.longest_row, static_cast<double>(rank.bars.size()));
      for (const Bar& bar : rank.bars) needs.unit = std::gcd(needs.unit, std::gcd(bar.begin, bar.end));
    }
  }
  for (const Timeline& timeline : timelines) {
    for (const RankTimeline& rank : timeline.ranks) {
      for (const Bar& bar : rank.bars) {
        if (bar.duration() <= 0) continue;
        const int width = label_width(bar.action);
        const Time units = bar.duration() / needs.unit;
        needs.columns_per_unit =
            std::max(needs.columns_per_unit, std::ceil(width / static_cast<double>(units)));
        needs.columns_per_time =
            std::max(needs.columns_per_time, (width + 1) / static_cast<double>(bar.duration()));
      }
    }
  }
  return needs;
}

}  // namespace

std::int64_t Grid::column(Time time) const {
  if (exact_) return time / time_ * columns_;
  return static_cast<std::int64_t>(
      std::llround(static_cast<double>(time) / static_cast<double>(time_) * static_cast<double>(columns_)));
}

Time Grid::time(std::int64_t column) const {
  if (exact_) return column / columns_ * time_ + column % columns_ * time_ / columns_;
  return static_cast<Time>(static_cast<double>(column) / static_cast<double>(columns_) *
                           static_cast<double>(time_));
}

Grid choose_grid(std::span<const Timeline> timelines, std::int64_t most_columns,
                 const std::function<int(const Action&)>& label_width) {
  const Needs needs = needs_of(timelines, label_width);
  if (needs.end == 0) return Grid::exact(1, 1);
  const auto end = static_cast<double>(needs.end);
  const double most = std::min(static_cast<double>(most_columns), kMostColumnsPerBar * needs.longest_row);
  const double wanted = std::ceil(needs.columns_per_time * end);
  const double exact = end / static_cast<double>(needs.unit) * needs.columns_per_unit;
  if (exact <= most && exact <= kExactStretch * wanted)
    return Grid::exact(needs.unit, static_cast<std::int64_t>(needs.columns_per_unit));
  return Grid::rounded(needs.end, static_cast<std::int64_t>(std::clamp(wanted, 1.0, most)));
}

}  // namespace counterflow
