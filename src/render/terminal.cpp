#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/render.h"
#include "grid.h"
#include "labels.h"
#include "palette.h"
#include "terminal_rows.h"

namespace counterflow {
namespace {

constexpr std::int64_t kFewestBesideFigures = 40;  // columns of the grid
constexpr std::int64_t kFewestColumns = 12;
constexpr std::int64_t kMostColumns = 1 << 24;
constexpr std::int64_t kTicksApart = 10;

std::string pad_left(const std::string& text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

/// The margin left of the grid: rank, idle, peak and, where bytes are known, the peak's bytes.
class Margin {
 public:
  explicit Margin(const std::vector<Timeline>& timelines) {
    for (const Timeline& timeline : timelines) {
      rows_.emplace_back();
      const std::vector<RankSummary> summaries = summarize(timeline);
      for (std::size_t rank = 0; rank < summaries.size(); ++rank) {
        const RankSummary& one = summaries[rank];
        rows_.back().push_back({std::to_string(rank), format_time(one.idle, timeline.unit_ns),
                                std::to_string(one.peak_activations),
                                one.peak_bytes > 0 ? format_bytes(one.peak_bytes) : ""});
        for (std::size_t c = 0; c < widths_.size(); ++c)
          widths_[c] = std::max(widths_[c], rows_.back().back()[c].size());
      }
    }
    if (widths_[3] > 0) widths_[3] = std::max(widths_[3], kHead[3].size());
  }

  /// The columns of a line that are left for the grid. Where they are few, the figures of the ranks give way,
  /// from the right.
  std::int64_t leave_room(std::int64_t line) {
    for (std::size_t c = widths_.size() - 1; c > 0 && line - width() - 2 < kFewestBesideFigures; --c)
      widths_[c] = 0;
    return std::max(kFewestColumns, line - width() - 2);
  }

  std::string head() const { return line(kHead); }
  std::string row(std::size_t timeline, std::size_t rank) const { return line(rows_[timeline][rank]); }

 private:
  using Row = std::array<std::string, 4>;
  inline static const Row kHead = {"rank", "idle", "peak", "bytes"};

  std::int64_t width() const { return static_cast<std::int64_t>(head().size()); }

  std::string line(const Row& row) const {
    std::string text;
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (widths_[c] > 0) text += pad_left(row[c], widths_[c]) + "  ";
    }
    return text;
  }

  std::vector<std::vector<Row>> rows_;  // [timeline][rank]
  std::array<std::size_t, 4> widths_ = {kHead[0].size(), kHead[1].size(), kHead[2].size(), 0};
};

/// Times above the grid, each above the column it names.
std::string axis(const Grid& grid, const Page& page, Time end, std::int64_t unit_ns) {
  const double apart = kTicksApart * static_cast<double>(end) /
                       static_cast<double>(std::max<std::int64_t>(1, grid.column(end)));
  const Time step = round_step(grid.is_exact() ? grid.time(grid.step()) : 1, apart);
  std::string text;
  for (Time time = (grid.time(page.begin) + step - 1) / step * step; time < end; time += step) {
    const std::int64_t at = grid.column(time) - page.begin;
    const std::string label = format_time(time, unit_ns);
    if (at + static_cast<std::int64_t>(label.size()) > page.end - page.begin) break;
    if (at < 0 || (at > 0 && at <= static_cast<std::int64_t>(text.size()))) continue;
    text.append(at - text.size(), ' ');
    text += label;
  }
  return text;
}

/// Every timeline's rows on one grid, and the pages that it is cut into.
struct Pages {
  Grid grid;
  std::vector<TerminalRows> rows;
  std::vector<Page> pages;
  int labels_lost = 0;
};

/// Cuts pages of at most `room` columns: of the last ends, the one that cuts the fewest labels off.
Pages cut(const std::vector<Timeline>& timelines, const Grid& grid, const Paint& paint, Time end,
          std::int64_t room) {
  Pages result{grid, {}, {}, 0};
  for (const Timeline& timeline : timelines) result.rows.emplace_back(timeline, grid, paint);
  const std::int64_t columns = std::max<std::int64_t>(1, grid.column(end));
  const std::int64_t longest = std::max<std::int64_t>(1, room / grid.step()) * grid.step();
  std::int64_t begin = 0;
  for (; columns - begin > room; begin = result.pages.back().end) {
    Page best{begin, begin + longest};
    int fewest = std::numeric_limits<int>::max();
    for (std::int64_t at = best.end; at > begin + longest / 2 && fewest > 0; at -= grid.step()) {
      int lost = 0;
      for (const TerminalRows& one : result.rows) lost += one.labels_lost_at(at);
      if (lost < fewest) best.end = at;
      fewest = std::min(fewest, lost);
    }
    result.pages.push_back(best);
    result.labels_lost += fewest;
  }
  result.pages.push_back({begin, columns});
  return result;
}

std::string swatch(const std::string& text, const Colour& colour, const Paint& paint) {
  return paint ? paint.on(colour) + " " + text + " " + paint.off() : text;
}

/// What tells a rank's passes apart beside the letters.
std::string legend_of_shades(const Placement& placement, const Paint& paint) {
  std::string text;
  int shade = 0;
  for (const std::string& line : describe_directions(placement))
    text += (paint ? swatch("F", colour_of(PassKind::kForward, std::min(shade++, 1)), paint) + " " : "") +
            line + "\n";
  const Shades shades(placement);
  if (text.empty() && paint && shades.needs_stage(1)) {
    text = swatch("F", colour_of(PassKind::kForward, 0), paint) + " first stages of each rank  " +
           swatch("F", colour_of(PassKind::kForward, 1), paint) + " last\n";
  }
  return text;
}

std::string legend(const std::vector<Timeline>& timelines, const Paint& paint) {
  const Kinds kinds = kinds_of(timelines);
  std::string text;
  for (std::size_t k = 0; k < kinds.passes.size(); ++k) {
    const auto kind = static_cast<PassKind>(k);
    if (kinds.passes[k])
      text += swatch(std::string(1, letter(kind)), colour_of(kind, 0), paint) + " " + name_of(kind) + "  ";
  }
  if (kinds.overlap) {
    text += paint ? swatch("1", colour_of(PassKind::kForward, 0), paint) +
                        swatch("+0", colour_of(PassKind::kBackward, 0), paint)
                  : "F1+B0";
    text += " overlapped pair  ";
  }
  text += paint.dim() + "." + paint.off() + " idle";
  if (paint)
    text += "  " + paint.on(colour_of(PassKind::kForward, 0), true) + "5" + paint.off() + " critical path";
  text += "\n";
  for (const Timeline& timeline : timelines) {
    const std::string shades = legend_of_shades(timeline.placement, paint);
    if (text.find(shades) == std::string::npos) text += shades;
  }
  return text;
}

Grid grid_for(const std::vector<Timeline>& timelines, const Paint& paint) {
  std::vector<BarText> texts;
  for (const Timeline& timeline : timelines) texts.emplace_back(timeline.placement, static_cast<bool>(paint));
  return choose_grid(timelines, kMostColumns, [&](const Action& action) {
    std::size_t width = 0;
    for (const BarText& one : texts) width = std::max(width, one.of(action).size());
    return static_cast<int>(width) + 1;
  });
}

/// Throws InvalidConfig where the pages would be more than anyone's memory.
void check_size(const std::vector<Timeline>& timelines, std::int64_t columns) {
  constexpr std::int64_t kMostCells = std::int64_t{1} << 28;
  std::int64_t rows = 0;
  for (const Timeline& timeline : timelines) rows += static_cast<std::int64_t>(timeline.ranks.size());
  if (rows * columns <= kMostCells) return;
  throw InvalidConfig("text: expected at most " + std::to_string(kMostCells) + " ranks x columns, found " +
                      std::to_string(rows * columns) + "; use one page, .html or .pftrace");
}

/// Pages that cut no label off: a grid twice as wide has room for every label on one side of any cut.
Pages choose_pages(const std::vector<Timeline>& timelines, const Paint& paint, Time end, std::int64_t room,
                   bool one_page) {
  const Grid narrowest = grid_for(timelines, paint);
  if (one_page && narrowest.column(end) > room)
    return cut(timelines, Grid::rounded(end, room), paint, end, room);
  check_size(timelines, narrowest.column(end));
  Pages pages = cut(timelines, narrowest, paint, end, room);
  for (Grid grid = narrowest.wider();
       pages.labels_lost > 0 && grid.column(end) <= 5 * narrowest.column(end) / 2; grid = grid.wider()) {
    Pages wider = cut(timelines, grid, paint, end, room);
    if (wider.labels_lost < pages.labels_lost) pages = std::move(wider);
  }
  return pages;
}

std::string notes(const std::vector<TerminalRows>& rows, const Grid& grid, std::int64_t unit_ns) {
  std::int64_t not_drawn = 0;
  std::int64_t without_label = 0;
  for (const TerminalRows& one : rows) {
    not_drawn += one.num_not_drawn();
    without_label += one.num_without_label();
  }
  std::string text;
  if (!grid.is_exact())
    text += "Times are rounded; 10 columns are " + format_time(grid.time(10), unit_ns) + ".\n";
  if (not_drawn > 0) text += std::to_string(not_drawn) + " actions shorter than a column are not drawn.\n";
  if (without_label > 0) text += std::to_string(without_label) + " actions have no room for their number.\n";
  return text;
}

}  // namespace

std::string draw_terminal(std::span<const Timeline> timelines, const TerminalOptions& options) {
  const std::vector<Timeline> same = in_one_unit(timelines);
  if (same.empty()) return "";
  const Paint paint(options.colour);
  Margin margin(same);
  const std::int64_t room = margin.leave_room(options.width);
  Time end = 0;
  for (const Timeline& timeline : same) end = std::max(end, timeline.end());
  Pages pages = choose_pages(same, paint, end, room, options.one_page);

  std::string text;
  for (const Page& page : pages.pages) {
    for (std::size_t t = 0; t < same.size(); ++t) {
      if (page.begin == 0)
        text += paint.bold() + title(same[t]) + ": " + describe(same[t]) + paint.off() + "\n";
      if (page.begin > 0 && same.size() > 1) text += title(same[t]) + "\n";
      text += margin.head() + " " + axis(pages.grid, page, end, same[t].unit_ns) + "\n";
      for (std::size_t rank = 0; rank < same[t].ranks.size(); ++rank)
        text += margin.row(t, rank) + "|" + pages.rows[t].draw(rank, page) + "|\n";
      text += "\n";
    }
  }
  return text + legend(same, paint) + notes(pages.rows, pages.grid, same[0].unit_ns);
}

}  // namespace counterflow
