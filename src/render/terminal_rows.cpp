#include "terminal_rows.h"

#include <algorithm>
#include <utility>

namespace counterflow {

std::string Paint::on(const Colour& colour, bool emphasis) const {
  if (!colour_) return "";
  return std::string("\033[") + (emphasis ? "1;4;" : "") + (colour.light_text ? "97" : "30") + ";48;5;" +
         std::to_string(colour.ansi) + "m";
}

BarText::BarText(const Placement& placement, bool colour)
    : colour_(colour), shades_(placement), with_stage_(shades_.needs_stage(colour ? 2 : 1)) {}

std::string BarText::of(const Pass& pass) const {
  std::string text = with_stage_ ? std::to_string(pass.stage) : "";
  if (!colour_ || with_stage_) text += letter(pass.kind);
  return text + std::to_string(pass.micro_batch);
}

std::string BarText::of(const Action& action) const {
  if (!action.is_overlap()) return of(action.passes()[0]);
  return of(action.passes()[0]) + "+" + of(action.passes()[1]);
}

const Colour& BarText::colour(const Pass& pass) const {
  const Shade shade = shades_.of(pass);
  return colour_of(pass.kind, shade.index > 0 && 2 * shade.index >= shade.count ? 1 : 0);
}

TerminalRows::TerminalRows(const Timeline& timeline, Grid grid, const Paint& paint)
    : timeline_(timeline),
      grid_(grid),
      paint_(paint),
      text_(timeline.placement, static_cast<bool>(paint)),
      rows_(timeline.ranks.size()) {
  for (const BarId& id : timeline.critical_path) rows_[id.rank].critical.push_back(id.bar);
  for (Row& row : rows_) std::sort(row.critical.begin(), row.critical.end());
  for (const RankTimeline& rank : timeline.ranks) {
    std::int64_t reached = 0;
    for (const Bar& bar : rank.bars) {
      const std::int64_t end = grid.column(bar.end);
      if (end <= std::max(reached, grid.column(bar.begin))) ++num_not_drawn_;
      reached = std::max(reached, end);
    }
  }
}

int TerminalRows::labels_lost_at(std::int64_t column) const {
  int lost = 0;
  for (const RankTimeline& rank : timeline_.ranks) {
    const auto bar = std::partition_point(rank.bars.begin(), rank.bars.end(),
                                          [&](const Bar& one) { return grid_.column(one.end) <= column; });
    if (bar == rank.bars.end()) continue;
    const std::int64_t before = column - grid_.column(bar->begin);
    const std::int64_t after = grid_.column(bar->end) - column;
    const std::int64_t width = label_width(bar->action);
    if (before > 0 && before < width && after < width + text_.gap()) ++lost;
  }
  return lost;
}

std::string TerminalRows::draw(std::size_t rank, const Page& page) {
  const std::vector<Bar>& bars = timeline_.ranks[rank].bars;
  Row& row = rows_[rank];
  std::string text;
  std::int64_t column = page.begin;
  for (; row.bar < bars.size(); ++row.bar, row.is_labelled = false) {
    const Bar& bar = bars[row.bar];
    Piece piece;
    piece.begin = std::max(grid_.column(bar.begin), row.column);
    piece.end = grid_.column(bar.end);
    if (piece.begin >= page.end) break;
    if (piece.end <= piece.begin) continue;
    piece.first = std::max(piece.begin, page.begin);
    piece.last = std::min(piece.end, page.end);
    piece.is_critical = std::binary_search(row.critical.begin(), row.critical.end(), row.bar);
    text += idle(piece.first - column) + draw(row, bar.action, piece, page);
    column = piece.last;
    if (piece.end > page.end) break;
    row.column = piece.end;
  }
  return text + idle(page.end - column);
}

std::int64_t TerminalRows::label_width(const Action& action) const {
  return static_cast<std::int64_t>(text_.of(action).size());
}

std::string TerminalRows::idle(std::int64_t columns) const {
  if (columns <= 0) return "";
  return paint_.dim() + std::string(columns, '.') + paint_.off();
}

std::string TerminalRows::draw(Row& row, const Action& action, const Piece& piece, const Page& page) {
  if (row.is_labelled) return fill(action, piece, "<" + std::string(piece.size() - 1, ' '));
  const std::int64_t width = label_width(action);
  if (piece.size() >= width + (piece.last < page.end ? text_.gap() : 0)) {
    row.is_labelled = true;
    return label(action, piece);
  }
  if (piece.end > page.end) return fill(action, piece, std::string(piece.size(), '>'));
  ++num_without_label_;
  const char kind = paint_ ? ' ' : action.is_overlap() ? 'X' : letter(action.passes()[0].kind);
  return fill(action, piece, std::string(piece.size(), kind));
}

/// A part without a label; with colour an overlapped pair's first half is the forward's.
std::string TerminalRows::fill(const Action& action, const Piece& piece, const std::string& text) const {
  const auto passes = action.passes();
  const std::int64_t front = action.is_overlap() && paint_ ? piece.size() / 2 : 0;
  return part(passes.front(), text.substr(0, front), piece.is_critical) +
         part(passes.back(), text.substr(front), piece.is_critical);
}

std::string TerminalRows::label(const Action& action, const Piece& piece) const {
  const auto passes = action.passes();
  if (!action.is_overlap() || !paint_)
    return part(passes[0], stretch(text_.of(action), piece.size()), piece.is_critical);
  std::string front = text_.of(passes[0]);
  std::string back = "+" + text_.of(passes[1]);
  const auto spare = piece.size() - static_cast<std::int64_t>(front.size() + back.size());
  front.append(spare / 2, ' ');
  const auto rest = piece.size() - static_cast<std::int64_t>(front.size());
  return part(passes[0], front, piece.is_critical) +
         part(passes[1], stretch(std::move(back), rest), piece.is_critical);
}

/// Fills up with spaces; with colour a thin line ends the bar.
std::string TerminalRows::stretch(std::string text, std::int64_t columns) const {
  const auto spare = columns - static_cast<std::int64_t>(text.size());
  if (spare <= 0) return text;
  text.append(spare - 1, ' ');
  return text + (paint_ ? "\u2595" : " ");
}

std::string TerminalRows::part(const Pass& pass, const std::string& text, bool is_critical) const {
  if (text.empty()) return "";
  return paint_.on(text_.colour(pass), is_critical) + text + paint_.off();
}

}  // namespace counterflow
