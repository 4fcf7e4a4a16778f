// Schedules as a test states them: a placement and one line of actions a rank,
// "0F0,1F0,(0F1;1B0)OVERLAP_F_B".
//
// Independent of the library's reader, and lenient: it takes wrong schedules without complaint.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "counterflow/schedule.h"

namespace counterflow {

/// "2F5"
inline Pass pass_of(const std::string& text) {
  const std::size_t at = text.find_first_of("FBIW");
  if (at == std::string::npos) throw std::invalid_argument("no pass: \"" + text + '"');
  Pass pass;
  pass.stage = std::stoi(text.substr(0, at));
  pass.micro_batch = std::stoi(text.substr(at + 1));
  for (const PassKind kind :
       {PassKind::kForward, PassKind::kBackward, PassKind::kInputGradient, PassKind::kWeightGradient}) {
    if (letter(kind) == text[at]) pass.kind = kind;
  }
  return pass;
}

/// "2F5" or "(2F6;1B0)OVERLAP_F_B"
inline Action action_of(const std::string& text) {
  if (text[0] != '(') return pass_of(text);
  const std::size_t middle = text.find(';');
  const std::size_t end = text.find(')');
  return Action::overlap(pass_of(text.substr(1, middle - 1)),
                         pass_of(text.substr(middle + 1, end - middle - 1)));
}

inline Schedule schedule_of(Placement placement, const std::vector<std::string>& lines) {
  Schedule schedule;
  schedule.name = "by hand";
  schedule.placement = std::move(placement);
  for (const std::string& line : lines) {
    auto& actions = schedule.actions.emplace_back();
    for (std::size_t begin = 0; begin < line.size();) {
      const std::size_t end = std::min(line.find(',', begin), line.size());
      actions.push_back(action_of(line.substr(begin, end - begin)));
      begin = end + 1;
    }
  }
  return schedule;
}

/// All lists of actions, for a failed test to show.
inline std::string text_of(const Schedule& schedule) {
  std::string text;
  for (const auto& actions : schedule.actions) {
    text += "  ";
    for (const Action& action : actions) text += to_string(action) + ",";
    text += '\n';
  }
  return text;
}

}  // namespace counterflow
