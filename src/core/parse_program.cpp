// Reads lowered schedules: the communication that parse() leaves out.
#include <algorithm>
#include <unordered_map>

#include "channels.h"
#include "counterflow/error.h"
#include "counterflow/program.h"
#include "counterflow/verify.h"
#include "dataflow.h"
#include "program_units.h"
#include "row_reader.h"
#include "shared_stages.h"

namespace counterflow {
namespace {

constexpr std::int32_t kNoReduction = -2;

/// Finds for each instruction of a rank's line the channel or reduction, the buffer and the group.
class ProgramBuilder {
 public:
  explicit ProgramBuilder(const Schedule& schedule)
      : schedule_(schedule),
        placement_(schedule.placement),
        channels_(schedule.placement, schedule.passes),
        free_buffers_(channels_.size()),
        reduction_of_(schedule.num_stages(), kNoReduction) {
    for (int c = 0; c < channels_.size(); ++c)
      program_.channels.push_back({channels_.from(c), channels_.to(c), 0, 0});
    if (schedule.passes == Passes::kForward) return;
    for (const auto& [ranks, stages] : shared_stages(placement_)) {
      for (const std::int32_t stage : stages)
        reduction_of_[stage] = static_cast<std::int32_t>(program_.reductions.size());
      program_.reductions.push_back({ranks});
    }
  }

  void add_rank(std::vector<Instruction> line) {
    const auto rank = static_cast<std::int32_t>(program_.ranks.size());
    std::int32_t group = -1;
    std::int32_t summed = -1;  // the reduction of the instruction before
    received_.clear();
    std::erase_if(line, [&](const Instruction& one) {
      return one.op == Op::kReduceGradients && reduction(one, rank) == kNoReduction;
    });
    for (Instruction& one : line) {
      const bool is_reduction = one.op == Op::kReduceGradients;
      if (is_reduction) {
        one.channel = reduction(one, rank);
        one.group = one.channel == summed ? group : ++group;
      } else if (one.op == Op::kCompute) {
        give_back(rank, one.step);
      } else {
        add_transfer(one, rank);
      }
      summed = is_reduction ? one.channel : -1;
    }
    program_.ranks.push_back(std::move(line));
  }

  Program take() { return std::move(program_); }

 private:
  /// -1 where the rank has no part in it, kNoReduction where it alone holds the stage.
  std::int32_t reduction(const Instruction& one, std::int32_t rank) const {
    if (one.stage >= placement_.num_stages()) return -1;
    const std::vector<std::int32_t> ranks = placement_.ranks_of(one.stage);
    return std::find(ranks.begin(), ranks.end(), rank) == ranks.end() ? -1 : reduction_of_[one.stage];
  }

  void add_transfer(Instruction& one, std::int32_t rank) {
    const bool is_send = role_of(one.op) == Role::kSend;
    const bool is_gradient = one.op == Op::kSendBackward || one.op == Op::kReceiveBackward;
    if (one.stage >= placement_.num_stages() || (is_gradient && schedule_.passes == Passes::kForward)) return;
    const Message message = message_of(one);
    if (!exists(message, placement_)) return;
    const int from = producer_rank(placement_, message);
    const int to = consumer_rank(placement_, message);
    if (from == to || rank != (is_send ? from : to)) return;
    one.channel = channels_.find(from, to);
    Channel& channel = program_.channels[one.channel];
    if (is_send) {
      ++channel.messages;
      return;
    }
    std::vector<std::int32_t>& free = free_buffers_[one.channel];
    if (free.empty()) free.push_back(channel.receive_buffers++);
    one.buffer = free.back();
    free.pop_back();
    received_[key(message)] = one.buffer;
  }

  /// The action of a step consumes its inputs. As in lower() the next receive gets the buffer of the first.
  void give_back(std::int32_t rank, std::int32_t step) {
    const auto passes = schedule_.actions[rank][step].passes();
    for (auto pass = passes.rbegin(); pass != passes.rend(); ++pass) {
      const auto input = input_of(*pass, placement_.num_stages());
      const auto found = input ? received_.find(key(*input)) : received_.end();
      if (found == received_.end()) continue;
      free_buffers_[channels_.find(producer_rank(placement_, *input), rank)].push_back(found->second);
      received_.erase(found);
    }
  }

  std::int64_t key(const Message& message) const {
    return 2 * (std::int64_t{message.stage} * placement_.num_micro_batches() + message.micro_batch) +
           (message.is_gradient ? 1 : 0);
  }

  const Schedule& schedule_;
  const Placement& placement_;
  const Channels channels_;
  std::vector<std::vector<std::int32_t>> free_buffers_;      // [channel], the next to be used last
  std::vector<std::int32_t> reduction_of_;                   // [stage]
  std::unordered_map<std::int64_t, std::int32_t> received_;  // of this rank: message → buffer
  Program program_;
};

[[noreturn]] void refuse_text() {
  throw InvalidConfig("expected the text that the schedule was read from, found another");
}

/// The instructions of a rank's line, compute by its step alone.
std::vector<Instruction> read_line(const Source& source, std::string_view line,
                                   const std::vector<Action>& actions) {
  std::vector<Instruction> instructions;
  RowReader reader(source, line, &instructions);
  std::size_t step = 0;
  for (; const auto action = reader.next(); ++step) {
    if (step >= actions.size() || *action != actions[step]) refuse_text();
    instructions.push_back({.op = Op::kCompute, .step = static_cast<std::int32_t>(step)});
  }
  if (step < actions.size()) refuse_text();
  return instructions;
}

void check_schedule(const Schedule& schedule) {
  VerifyOptions options;
  options.max_diagnostics = 1;
  const Verdict verdict = verify(schedule, options);
  if (verdict.ok()) return;
  const Diagnostic& first = verdict.diagnostics.front();
  throw InvalidConfig("cannot read a program of a schedule that does not verify: " +
                      std::string(rule_name(first.rule)) + ": " + first.message);
}

}  // namespace

std::optional<Program> parse_program(std::string_view text, const Schedule& schedule,
                                     const std::string& file) {
  const auto has = [&](std::string_view word) { return text.find(word) != std::string_view::npos; };
  if (!has("SEND_") && !has("RECV_")) return std::nullopt;
  check_schedule(schedule);
  const Source source{text, file};
  ProgramBuilder builder(schedule);
  bool communicates = false;
  int ranks = 0;
  for (Lines lines(text); !lines.at_end() && ranks < schedule.num_ranks();) {
    const std::string_view line = lines.next();
    if (line.starts_with('#')) continue;
    std::vector<Instruction> instructions = read_line(source, line, schedule.actions[ranks]);
    for (const Instruction& one : instructions)
      communicates = communicates || (one.op != Op::kCompute && one.op != Op::kReduceGradients);
    builder.add_rank(std::move(instructions));
    ++ranks;
  }
  if (ranks < schedule.num_ranks()) refuse_text();
  if (!communicates) return std::nullopt;
  return builder.take();
}

}  // namespace counterflow
