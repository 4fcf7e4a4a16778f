#include "action_text.h"

#include <array>
#include <charconv>
#include <string_view>

#include "counterflow/error.h"

namespace counterflow {
namespace {

constexpr std::string_view kOverlapSuffix = ")OVERLAP_F_B";
constexpr std::size_t kMostNumberChars = 11;  // -2147483648
constexpr std::size_t kMostActionChars = 4 * kMostNumberChars + 4 + kOverlapSuffix.size();

char* write_pass(char* out, const Pass& pass) {
  out = std::to_chars(out, out + kMostNumberChars, pass.stage).ptr;
  *out++ = letter(pass.kind);
  return std::to_chars(out, out + kMostNumberChars, pass.micro_batch).ptr;
}

void check_writable(const Action& action, std::size_t rank) {
  const auto passes = action.passes();
  bool writable =
      !action.is_overlap() || (passes[0].kind == PassKind::kForward && passes[1].kind == PassKind::kBackward);
  for (const Pass& pass : passes) writable = writable && pass.stage >= 0 && pass.micro_batch >= 0;
  if (!writable) {
    throw InvalidConfig("rank " + std::to_string(rank) +
                        ": expected numbers from 0 on, and pairs of a forward and a full backward; found " +
                        to_string(action) + ", which no file can hold");
  }
}

}  // namespace

void append_action(std::string& out, const Action& action) {
  const auto passes = action.passes();
  std::array<char, kMostActionChars> text;
  char* end = text.data();
  if (action.is_overlap()) {
    *end++ = '(';
    end = write_pass(end, passes[0]);
    *end++ = ';';
    end = write_pass(end, passes[1]);
    end = kOverlapSuffix.copy(end, kOverlapSuffix.size()) + end;
  } else {
    end = write_pass(end, passes[0]);
  }
  out.append(text.data(), end);
}

void append_rows(std::string& out, const Schedule& schedule) {
  if (schedule.actions.size() != static_cast<std::size_t>(schedule.num_ranks())) {
    throw InvalidConfig("schedule: expected actions for " + std::to_string(schedule.num_ranks()) +
                        " ranks, found " + std::to_string(schedule.actions.size()));
  }
  for (std::size_t rank = 0; rank < schedule.actions.size(); ++rank) {
    bool first = true;
    for (const Action& action : schedule.actions[rank]) {
      check_writable(action, rank);
      if (!first) out += ',';
      first = false;
      append_action(out, action);
    }
    out += '\n';
  }
}

}  // namespace counterflow
