#include "counterflow/diff.h"

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <tuple>

#include "counterflow/format.h"
#include "shortest_edit.h"

namespace counterflow {
namespace {

std::string both(const std::string& what, int a, int b) {
  return what + ": " + std::to_string(a) + " and " + std::to_string(b);
}

std::string ranks_text(const Direction& direction) {
  constexpr std::size_t kShown = 16;
  std::string text;
  for (std::size_t stage = 0; stage < std::min(direction.rank_of_stage.size(), kShown); ++stage)
    text += (stage == 0 ? "" : " ") + std::to_string(direction.rank_of_stage[stage]);
  return direction.rank_of_stage.size() > kShown ? text + " …" : text;
}

std::vector<std::string> compare_shapes(const Schedule& a, const Schedule& b) {
  std::vector<std::string> found;
  if (a.num_ranks() != b.num_ranks()) found.push_back(both("ranks", a.num_ranks(), b.num_ranks()));
  if (a.num_stages() != b.num_stages()) found.push_back(both("stages", a.num_stages(), b.num_stages()));
  if (a.num_micro_batches() != b.num_micro_batches())
    found.push_back(both("micro-batches", a.num_micro_batches(), b.num_micro_batches()));
  const auto passes = [](const Schedule& s) { return s.passes == Passes::kForward ? "forward" : "training"; };
  if (a.passes != b.passes) found.push_back(std::string("passes: ") + passes(a) + " and " + passes(b));
  if (a.placement.num_directions() != b.placement.num_directions()) {
    found.push_back(both("directions", a.placement.num_directions(), b.placement.num_directions()));
  }
  if (!found.empty()) return found;
  for (int d = 0; d < a.placement.num_directions(); ++d) {
    const Direction& left = a.placement.direction(d);
    const Direction& right = b.placement.direction(d);
    const std::string where = "direction " + std::to_string(d);
    if (left.num_micro_batches != right.num_micro_batches)
      found.push_back(both(where + ": micro-batches", left.num_micro_batches, right.num_micro_batches));
    if (left.rank_of_stage != right.rank_of_stage) {
      found.push_back(where + ": ranks of the stages: " + ranks_text(left) + " and " + ranks_text(right));
    }
  }
  return found;
}

using Key = std::tuple<std::int32_t, std::int32_t, PassKind, std::int32_t, std::int32_t>;

/// An action as something to sort by.
Key key(const Action& action) {
  const auto passes = action.passes();
  const Pass second = action.is_overlap() ? passes[1] : Pass{-1, -1, PassKind::kBackward};
  return {passes[0].stage, passes[0].micro_batch, passes[0].kind, second.stage, second.micro_batch};
}

bool is_reordering(const std::vector<Action>& a, const std::vector<Action>& b) {
  if (a.size() != b.size()) return false;
  const auto sorted_keys = [](const std::vector<Action>& actions) {
    std::vector<Key> keys;
    keys.reserve(actions.size());
    for (const Action& action : actions) keys.push_back(key(action));
    std::sort(keys.begin(), keys.end());
    return keys;
  };
  return sorted_keys(a) == sorted_keys(b);
}

/// Three rows below each other: the steps, and the actions of both schedules.
class Rows {
 public:
  Rows(const std::string& name_a, const std::string& name_b)
      : labels_{"step", printable(name_a), printable(name_b)} {}

  /// An action that both have at these steps.
  void add_same(int a, int b, const Action& action) {
    columns_.push_back({a == b ? std::to_string(a) : std::to_string(a) + "/" + std::to_string(b),
                        to_string(action), to_string(action)});
  }

  void add_difference(const StepDifference& step, const std::vector<Action>& a,
                      const std::vector<Action>& b) {
    const auto cell = [](const std::vector<Action>& actions, int index) {
      return "[" + (index < 0 ? "-" : to_string(actions[index])) + "]";
    };
    if (!difference_) difference_ = columns_.size();
    columns_.push_back(
        {std::to_string(step.a < 0 ? step.b : step.a) + " ", cell(a, step.a), cell(b, step.b)});
  }

  /// What is before the first column, or after the last one, is left out.
  void cut_before() { is_cut_before_ = true; }
  void cut_after() { is_cut_after_ = true; }

  /// Leaves out more until all fits, or only the first difference is left.
  void fit(std::size_t max_width) {
    while (columns_.size() > 1 && line_width() > max_width) {
      if (columns_.size() > difference_.value_or(0) + 1) {
        columns_.pop_back();
        cut_after();
      } else {
        columns_.pop_front();
        --*difference_;
        cut_before();
      }
    }
  }

  std::string text() const {
    std::string text;
    for (std::size_t row = 0; row < labels_.size(); ++row) {
      std::string line = "  " + labels_[row] + std::string(widest(labels_) - labels_[row].size(), ' ');
      if (is_cut_before_) line += "  …";
      for (const Column& column : columns_)
        line += std::string(2 + widest(column) - column[row].size(), ' ') + column[row];
      if (is_cut_after_) line += "  …";
      line.erase(line.find_last_not_of(' ') + 1);
      text += line + "\n";
    }
    return text;
  }

 private:
  using Column = std::array<std::string, 3>;

  /// In bytes, which are as many as characters: every action is ASCII.
  static std::size_t widest(const Column& cells) {
    return std::max({cells[0].size(), cells[1].size(), cells[2].size()});
  }

  std::size_t line_width() const {
    constexpr std::size_t kGap = 3;
    std::size_t width = 2 + widest(labels_) + (is_cut_before_ ? kGap : 0) + (is_cut_after_ ? kGap : 0);
    for (const Column& column : columns_) width += 2 + widest(column);
    return width;
  }

  Column labels_;
  std::deque<Column> columns_;
  std::optional<std::size_t> difference_;  ///< which column has the first
  bool is_cut_before_ = false;
  bool is_cut_after_ = false;
};

/// Both lists around the first steps that differ.
std::string draw_steps(const RankDifference& difference, const std::vector<Action>& a,
                       const std::vector<Action>& b, const std::string& name_a, const std::string& name_b,
                       std::size_t max_width) {
  constexpr int kBefore = 2;
  constexpr int kColumns = 8;
  Rows rows(name_a, name_b);
  // The lists are the same up to the first difference, whose step is that of either list.
  const int first = std::max(difference.steps.front().a, difference.steps.front().b);
  int step_a = std::max(0, first - kBefore);
  int step_b = step_a;
  if (step_a > 0) rows.cut_before();
  auto next = difference.steps.begin();
  for (int column = 0; column < kColumns; ++column) {
    if (next != difference.steps.end() && (next->a < 0 || next->a == step_a) &&
        (next->b < 0 || next->b == step_b)) {
      rows.add_difference(*next, a, b);
      if (next->a >= 0) ++step_a;
      if (next->b >= 0) ++step_b;
      ++next;
    } else if (step_a < static_cast<int>(a.size())) {
      rows.add_same(step_a, step_b, a[step_a]);
      ++step_a;
      ++step_b;
    }
  }
  if (step_a < static_cast<int>(a.size()) || step_b < static_cast<int>(b.size())) rows.cut_after();
  rows.fit(max_width);
  return rows.text();
}

/// The steps at which two lists differ, one step beside the other; the longer list's last have no other.
std::vector<StepDifference> differing_steps(const std::vector<Action>& a, const std::vector<Action>& b) {
  std::vector<StepDifference> found;
  for (std::size_t step = 0; step < std::max(a.size(), b.size()); ++step) {
    const int index = static_cast<int>(step);
    if (step < a.size() && step < b.size()) {
      if (a[step] != b[step]) found.push_back({index, index});
    } else {
      found.push_back(step < a.size() ? StepDifference{index, -1} : StepDifference{-1, index});
    }
  }
  return found;
}

/// As differing_steps(), or by drops and insertions where those are fewer: one dropped action moves all that
/// follow, and that should read as one difference.
std::vector<StepDifference> compare_steps(const std::vector<Action>& a, const std::vector<Action>& b) {
  constexpr int kMaxEdits = 64;
  std::vector<StepDifference> found = differing_steps(a, b);
  const int fewer = std::min(static_cast<int>(found.size()) - 1, kMaxEdits);
  if (auto edits = shortest_edit(a, b, fewer)) return *std::move(edits);
  return found;
}

}  // namespace

Difference diff(const Schedule& a, const Schedule& b) {
  Difference found{compare_shapes(a, b), {}};
  const std::size_t ranks = std::min(a.actions.size(), b.actions.size());
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto& left = a.actions[rank];
    const auto& right = b.actions[rank];
    if (left == right) continue;
    RankDifference difference{static_cast<std::int32_t>(rank), compare_steps(left, right), false};
    difference.reordered = is_reordering(left, right);
    found.ranks.push_back(difference);
  }
  return found;
}

std::string draw(const Difference& difference, const Schedule& a, const Schedule& b,
                 const std::string& name_a, const std::string& name_b, std::size_t max_width, int max_ranks) {
  std::string text;
  for (const std::string& line : difference.shape) text += line + "\n";
  int shown = 0;
  for (const RankDifference& rank : difference.ranks) {
    if (shown++ == max_ranks) {
      text += "… and " + std::to_string(difference.ranks.size() - max_ranks) + " more ranks\n";
      break;
    }
    const auto& left = a.actions[rank.rank];
    const auto& right = b.actions[rank.rank];
    const auto steps = static_cast<std::int64_t>(rank.steps.size());
    text += "rank " + std::to_string(rank.rank) + ": " + std::to_string(steps) +
            (steps == 1 ? " difference" : " differences") + " in " +
            std::to_string(std::max(left.size(), right.size())) + " steps" +
            (rank.reordered ? ", the same actions in another order" : "") + "\n" +
            draw_steps(rank, left, right, name_a, name_b, max_width);
  }
  return text;
}

}  // namespace counterflow
