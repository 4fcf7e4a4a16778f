#include "row_reader.h"

#include <array>
#include <string>

namespace counterflow {

std::optional<Action> RowReader::next() {
  while (true) {
    cursor_.skip_blanks();
    if (cursor_.at_end()) return {};
    if (cursor_.accept(',')) continue;
    offset_ = cursor_.offset();
    const std::optional<Action> action = cell();
    cursor_.skip_blanks();
    if (!cursor_.at_end() && !cursor_.accept(',')) cursor_.expected("a comma or the end of the line");
    if (action) return action;
  }
}

std::optional<Action> RowReader::cell() {
  if (cursor_.peek() == '(') return overlapped_pair();
  if (cursor_.accept("\"\"")) return {};  // Python's csv writes a row of one empty cell like this
  if (!is_digit(cursor_.peek())) cursor_.expected("an action such as 2F5 or (2F6;1B0)OVERLAP_F_B");
  const auto stage = cursor_.number("a stage");
  if (communication(stage)) return {};
  return pass_of(stage);
}

Action RowReader::overlapped_pair() {
  cursor_.accept('(');
  cursor_.skip_blanks();
  const Cursor at_first = cursor_;
  const Pass first = pass();
  if (first.kind != PassKind::kForward) at_first.expected("a forward (F) as the first of an overlapped pair");
  cursor_.skip_blanks();
  if (!cursor_.accept(';')) cursor_.expected("a semicolon and the backward of the overlapped pair");
  cursor_.skip_blanks();
  const Cursor at_second = cursor_;
  const Pass second = pass();
  if (second.kind != PassKind::kBackward) {
    at_second.expected("a full backward (B) as the second of an overlapped pair");
  }
  cursor_.skip_blanks();
  if (!cursor_.accept(")OVERLAP_F_B")) cursor_.expected(")OVERLAP_F_B");
  return Action::overlap(first, second);
}

Pass RowReader::pass() {
  return pass_of(cursor_.number("a stage"));
}

Pass RowReader::pass_of(std::int32_t stage) {
  const PassKind kind = pass_kind();
  return {stage, cursor_.number("a micro-batch"), kind};
}

PassKind RowReader::pass_kind() {
  if (cursor_.accept('F')) return PassKind::kForward;
  if (cursor_.accept('B')) return PassKind::kBackward;
  if (cursor_.accept('I')) return PassKind::kInputGradient;
  if (cursor_.accept('W')) return PassKind::kWeightGradient;
  cursor_.expected("F, B, I or W after the stage");
}

bool RowReader::communication(std::int32_t stage) {
  struct Transfer {
    std::string_view name;
    Op op;
  };
  constexpr std::array kTransfers = {
      Transfer{"SEND_F", Op::kSendForward}, Transfer{"RECV_F", Op::kReceiveForward},
      Transfer{"SEND_B", Op::kSendBackward}, Transfer{"RECV_B", Op::kReceiveBackward}};
  const char first = cursor_.peek();
  if (first != 'S' && first != 'R' && first != 'U') return false;
  for (const Transfer& transfer : kTransfers) {
    if (!cursor_.accept(transfer.name)) continue;
    const auto micro_batch = cursor_.number("a micro-batch");
    if (communication_ != nullptr)
      communication_->push_back({.op = transfer.op, .stage = stage, .micro_batch = micro_batch});
    return true;
  }
  if (cursor_.accept("REDUCE_GRAD")) {
    if (communication_ != nullptr) communication_->push_back({.op = Op::kReduceGradients, .stage = stage});
    return true;
  }
  if (cursor_.accept("UNSHARD") || cursor_.accept("RESHARD")) return true;
  cursor_.expected("SEND_F, RECV_F, SEND_B, RECV_B, UNSHARD, RESHARD or REDUCE_GRAD");
}

}  // namespace counterflow
