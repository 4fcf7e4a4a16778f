#include <algorithm>
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

std::string cell(const Schedule& schedule, const Verdict& verdict, int rank, int step) {
  const auto& actions = schedule.actions[rank];
  if (step >= static_cast<int>(actions.size())) return "";
  const std::string text = to_string(actions[step]);
  return is_culprit(verdict, rank, step) ? ">" + text + "<" : " " + text;
}

/// The steps around one diagnostic on its rank and on the ranks beside it, the culprits in > <.
std::string draw_around(const Schedule& schedule, const Verdict& verdict, const Diagnostic& culprit) {
  const int first_rank = std::max(0, culprit.rank - kRanksAround);
  const int last_rank = std::min(static_cast<int>(schedule.actions.size()) - 1, culprit.rank + kRanksAround);
  const int first_step = std::max(0, culprit.step - kStepsAround);
  const int last_step = culprit.step + kStepsAround;

  std::vector<std::vector<std::string>> columns;
  std::vector<std::string> labels{"step"};
  for (int rank = first_rank; rank <= last_rank; ++rank) labels.push_back("rank " + std::to_string(rank));
  columns.push_back(std::move(labels));
  for (int step = first_step; step <= last_step; ++step) {
    std::vector<std::string> column{" " + std::to_string(step)};
    for (int rank = first_rank; rank <= last_rank; ++rank)
      column.push_back(cell(schedule, verdict, rank, step));
    columns.push_back(std::move(column));
  }

  std::string text;
  for (std::size_t row = 0; row < columns[0].size(); ++row) {
    std::string line;
    for (const auto& column : columns) {
      std::size_t width = 0;
      for (const std::string& one : column) width = std::max(width, one.size());
      line += pad(column[row], width + 1);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace

std::string draw(const Schedule& schedule, const Verdict& verdict) {
  std::string text;
  const auto located =
      std::find_if(verdict.diagnostics.begin(), verdict.diagnostics.end(), [&](const Diagnostic& one) {
        return one.rank >= 0 && one.rank < static_cast<int>(schedule.actions.size()) && one.step >= 0 &&
               one.step < static_cast<int>(schedule.actions[one.rank].size());
      });
  if (located != verdict.diagnostics.end()) text += draw_around(schedule, verdict, *located) + "\n";
  for (const Diagnostic& one : verdict.diagnostics) {
    text += std::string(rule_name(one.rule)) + ": ";
    if (one.rank >= 0) text += "rank " + std::to_string(one.rank);
    if (one.rank >= 0 && one.step >= 0) text += ", step " + std::to_string(one.step);
    if (one.rank >= 0) text += ": ";
    text += one.message + "\n";
  }
  const auto kept = static_cast<std::int64_t>(verdict.diagnostics.size());
  if (verdict.num_diagnostics > kept)
    text += "… and " + std::to_string(verdict.num_diagnostics - kept) + " more\n";
  return text;
}

}  // namespace counterflow
