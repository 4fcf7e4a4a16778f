#include "program_view.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "counterflow/format.h"
#include "units.h"

namespace counterflow::command {
namespace {

using nlohmann::ordered_json;

template <typename Numbers>
std::string join(const Numbers& numbers) {
  std::string text;
  for (const auto number : numbers) text += (text.empty() ? "" : " ") + std::to_string(number);
  return text;
}

/// The lines of a schedule's file before its actions.
std::string header_of(const Schedule& schedule) {
  std::string text = format(schedule);
  std::size_t end = 0;
  while (end < text.size() && text[end] == '#') end = text.find('\n', end) + 1;
  text.resize(end);
  return text;
}

std::set<std::int32_t> reduced_stages(const Program& program, std::size_t reduction) {
  std::set<std::int32_t> stages;
  for (const Instruction& one : program.ranks[program.reductions[reduction].ranks.front()]) {
    if (one.op == Op::kReduceGradients && one.channel == static_cast<std::int32_t>(reduction))
      stages.insert(one.stage);
  }
  return stages;
}

std::string communicators(const Program& program) {
  std::string text = "## channels: a communicator for each directed pair of ranks, first in, first out\n";
  for (const Channel& channel : program.channels) {
    text += "## channel " + std::to_string(channel.from) + " -> " + std::to_string(channel.to) + ": " +
            plural(channel.messages, "message") + ", " + plural(channel.receive_buffers, "receive buffer") +
            "\n";
  }
  for (std::size_t r = 0; r < program.reductions.size(); ++r) {
    text += "## reduction on ranks " + join(program.reductions[r].ranks) + ": the gradients of stages " +
            join(reduced_stages(program, r)) + ", one group\n";
  }
  return text;
}

std::string_view op_name(Op op) {
  switch (op) {
    case Op::kCompute:
      return "COMPUTE";
    case Op::kSendForward:
      return "SEND_F";
    case Op::kReceiveForward:
      return "RECV_F";
    case Op::kSendBackward:
      return "SEND_B";
    case Op::kReceiveBackward:
      return "RECV_B";
    case Op::kReduceGradients:
      return "REDUCE_GRAD";
  }
  return "";
}

ordered_json to_json(const Instruction& instruction, const std::vector<Action>& actions) {
  ordered_json json{{"op", op_name(instruction.op)}, {"text", to_string(instruction, actions)}};
  const auto add = [&](const char* key, std::int32_t value) {
    if (value >= 0) json[key] = value;
  };
  add("step", instruction.step);
  add("stage", instruction.stage);
  add("micro_batch", instruction.micro_batch);
  add(instruction.op == Op::kReduceGradients ? "reduction" : "channel", instruction.channel);
  add("buffer", instruction.buffer);
  add("group", instruction.group);
  return json;
}

}  // namespace

std::string program_text(const Schedule& schedule, const Program& program) {
  std::string text = header_of(schedule) + communicators(program);
  for (std::size_t rank = 0; rank < program.ranks.size(); ++rank) {
    const char* joint = "";
    for (const Instruction& instruction : program.ranks[rank]) {
      text += joint + to_string(instruction, schedule.actions[rank]);
      joint = ",";
    }
    text += "\n";
  }
  return text;
}

std::string program_json(const Schedule& schedule, const Program& program) {
  ordered_json channels = ordered_json::array();
  for (const Channel& channel : program.channels) {
    channels.push_back({{"from", channel.from},
                        {"to", channel.to},
                        {"messages", channel.messages},
                        {"receive_buffers", channel.receive_buffers}});
  }
  ordered_json reductions = ordered_json::array();
  for (const Reduction& reduction : program.reductions) reductions.push_back({{"ranks", reduction.ranks}});
  ordered_json ranks = ordered_json::array();
  for (std::size_t rank = 0; rank < program.ranks.size(); ++rank) {
    ordered_json instructions = ordered_json::array();
    for (const Instruction& instruction : program.ranks[rank])
      instructions.push_back(to_json(instruction, schedule.actions[rank]));
    ranks.push_back(std::move(instructions));
  }
  const ordered_json json{
      {"name", schedule.name}, {"channels", channels}, {"reductions", reductions}, {"ranks", ranks}};
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace counterflow::command
