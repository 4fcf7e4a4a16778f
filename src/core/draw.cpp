#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "counterflow/verify.h"

namespace counterflow {
namespace {

constexpr int kRanksAround = 3;
constexpr int kStepsAround = 3;

std::string pad(std::string text, std::size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

bool is_culprit(const Verdict& verdict, int rank, int step) {
  return std::any_of(verdict.diagnostics.begin(), verdict.diagnostics.end(),
                     [&](const Diagnostic& one) { return one.rank == rank && one.step == step; });
}

/// What each rank does, as texts, and what a place in its list is called.
struct Grid {
  const char* place;
  std::function<std::string(int rank, int step)> text;
  std::vector<int> sizes;  // [rank]

  bool has(const Diagnostic& one) const {
    return one.rank >= 0 && one.rank < static_cast<int>(sizes.size()) && one.step >= 0 &&
           one.step < sizes[one.rank];
  }
};

template <typename Lists>
std::vector<int> sizes_of(const Lists& lists) {
  std::vector<int> sizes;
  for (const auto& list : lists) sizes.push_back(static_cast<int>(list.size()));
  return sizes;
}

std::string cell(const Grid& grid, const Verdict& verdict, int rank, int step) {
  if (step >= grid.sizes[rank]) return "";
  const std::string text = grid.text(rank, step);
  return is_culprit(verdict, rank, step) ? ">" + text + "<" : " " + text;
}

std::size_t width_of(const std::vector<std::string>& column) {
  std::size_t widest = 0;
  for (const std::string& one : column) widest = std::max(widest, one.size());
  return widest + 1;
}

/// Takes the farther of the first and the last step away, until the culprit's is left or all fit.
void fit(std::vector<std::vector<std::string>>& columns, std::size_t culprit, std::size_t max_width) {
  const auto width = [&] {
    std::size_t sum = 0;
    for (const auto& column : columns) sum += width_of(column);
    return sum - 1;
  };
  while (columns.size() > 2 && width() > max_width) {
    if (culprit - 1 < columns.size() - 1 - culprit) {
      columns.pop_back();
    } else {
      columns.erase(columns.begin() + 1);
      --culprit;
    }
  }
}

/// The steps around one diagnostic on its rank and on the ranks beside it, the culprits in > <.
std::string draw_around(const Grid& grid, const Verdict& verdict, const Diagnostic& culprit,
                        std::size_t max_width) {
  const int first_rank = std::max(0, culprit.rank - kRanksAround);
  const int last_rank = std::min(static_cast<int>(grid.sizes.size()) - 1, culprit.rank + kRanksAround);
  const int first_step = std::max(0, culprit.step - kStepsAround);
  const int longest = *std::max_element(grid.sizes.begin() + first_rank, grid.sizes.begin() + last_rank + 1);
  const int last_step = std::min(longest - 1, culprit.step + kStepsAround);

  std::vector<std::vector<std::string>> columns;
  std::vector<std::string> labels{grid.place};
  for (int rank = first_rank; rank <= last_rank; ++rank) labels.push_back("rank " + std::to_string(rank));
  columns.push_back(std::move(labels));
  for (int step = first_step; step <= last_step; ++step) {
    std::vector<std::string> column{" " + std::to_string(step)};
    for (int rank = first_rank; rank <= last_rank; ++rank) column.push_back(cell(grid, verdict, rank, step));
    columns.push_back(std::move(column));
  }
  fit(columns, culprit.step - first_step + 1, max_width);

  std::string text;
  for (std::size_t row = 0; row < columns[0].size(); ++row) {
    std::string line;
    for (const auto& column : columns) line += pad(column[row], width_of(column));
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string draw(const Grid& grid, const Verdict& verdict, std::size_t max_width) {
  std::string text;
  const auto located = std::find_if(verdict.diagnostics.begin(), verdict.diagnostics.end(),
                                    [&](const Diagnostic& one) { return grid.has(one); });
  if (located != verdict.diagnostics.end()) text += draw_around(grid, verdict, *located, max_width) + "\n";
  for (const Diagnostic& one : verdict.diagnostics) {
    text += std::string(rule_name(one.rule)) + ": ";
    if (one.rank >= 0) text += "rank " + std::to_string(one.rank);
    if (one.rank >= 0 && one.step >= 0)
      text += std::string(", ") + grid.place + " " + std::to_string(one.step);
    if (one.rank >= 0) text += ": ";
    text += one.message + "\n";
  }
  const auto kept = static_cast<std::int64_t>(verdict.diagnostics.size());
  if (verdict.num_diagnostics > kept)
    text += "… and " + std::to_string(verdict.num_diagnostics - kept) + " more\n";
  return text;
}

}  // namespace

std::string draw(const Schedule& schedule, const Verdict& verdict, std::size_t max_width) {
  const auto text = [&](int rank, int step) { return to_string(schedule.actions[rank][step]); };
  return draw(Grid{"step", text, sizes_of(schedule.actions)}, verdict, max_width);
}

std::string draw(const Program& program, const Schedule& schedule, const Verdict& verdict,
                 std::size_t max_width) {
  const auto text = [&](int rank, int position) {
    return to_string(program.ranks[rank][position], schedule.actions[rank]);
  };
  return draw(Grid{"instruction", text, sizes_of(program.ranks)}, verdict, max_width);
}

}  // namespace counterflow
