// Reads the actions of one rank: a line of PyTorch's schedule CSV.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "counterflow/action.h"
#include "counterflow/program.h"
#include "text.h"

namespace counterflow {

inline constexpr std::size_t kFewestActionBytes = 4;  ///< "0F0,"

/// Hands out the actions of a line. Empty cells (PyTorch's idle slots) and PyTorch's communication actions
/// (lower() derives them anew) are checked and left out, or where `communication` is given put there: sends,
/// receives and sums of gradients, each before the action that it stands before.
class RowReader {
 public:
  RowReader(const Source& source, std::string_view line, std::vector<Instruction>* communication = nullptr)
      : cursor_(source, line), communication_(communication) {}

  /// The next action, or nothing at the end of the line. Throws ParseError.
  std::optional<Action> next();

  /// Where the action that next() gave begins.
  std::size_t offset() const { return offset_; }

 private:
  std::optional<Action> cell();
  Action overlapped_pair();
  Pass pass();
  Pass pass_of(std::int32_t stage);
  PassKind pass_kind();
  bool communication(std::int32_t stage);

  Cursor cursor_;
  std::vector<Instruction>* communication_;
  std::size_t offset_ = 0;
};

/// All actions of a line. visit(action, offset) sees each.
template <typename Visit>
std::vector<Action> read_row(const Source& source, std::string_view line, Visit visit) {
  const auto commas = static_cast<std::size_t>(std::count(line.begin(), line.end(), ','));
  std::vector<Action> actions;
  actions.reserve(std::min(commas, line.size() / kFewestActionBytes) + 1);
  RowReader reader(source, line);
  while (const auto action = reader.next()) {
    visit(*action, reader.offset());
    actions.push_back(*action);
  }
  return actions;
}

}  // namespace counterflow
