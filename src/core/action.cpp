#include "counterflow/action.h"

#include <ostream>

namespace counterflow {

char letter(PassKind kind) {
  constexpr std::array<char, 4> kLetters{'F', 'B', 'I', 'W'};
  return kLetters[static_cast<std::size_t>(kind)];
}

std::string to_string(const Pass& pass) {
  return std::to_string(pass.stage) + letter(pass.kind) + std::to_string(pass.micro_batch);
}

std::string to_string(const Action& action) {
  const auto passes = action.passes();
  if (!action.is_overlap()) return to_string(passes[0]);
  return "(" + to_string(passes[0]) + ";" + to_string(passes[1]) + ")OVERLAP_F_B";
}

std::ostream& operator<<(std::ostream& out, const Pass& pass) {
  return out << to_string(pass);
}
std::ostream& operator<<(std::ostream& out, const Action& action) {
  return out << to_string(action);
}

}  // namespace counterflow
