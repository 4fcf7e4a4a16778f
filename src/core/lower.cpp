#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "channels.h"
#include "counterflow/error.h"
#include "counterflow/program.h"
#include "counterflow/verify.h"
#include "dataflow.h"
#include "receive_order.h"
#include "shared_stages.h"

namespace counterflow {
namespace {

class Lowering {
 public:
  Lowering(const Schedule& schedule, const LowerOptions& options)
      : schedule_(schedule),
        placement_(schedule.placement),
        num_stages_(schedule.num_stages()),
        channels_(schedule.placement, schedule.passes),
        order_(schedule) {
    program_.channels = order_.channels();
    for (Channel& channel : program_.channels) {
      if (options.receive_buffers)
        channel.receive_buffers = std::min(*options.receive_buffers, channel.messages);
    }
    program_.ranks.resize(schedule.num_ranks());
    collect_messages();
  }

  Program lower() {
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) lower_rank(rank);
    if (schedule_.passes == Passes::kTraining) add_reductions();
    return std::move(program_);
  }

 private:
  /// The receiving end of a channel while its rank's program is written.
  struct Receiver {
    std::size_t posted = 0;
    std::vector<std::int32_t> free_buffers;  // the next to be used last
    std::vector<std::int32_t> buffer_of;     // [message, in the sender's order]
  };

  /// Messages of every channel in the order in which the sender's actions produce them.
  void collect_messages() {
    sent_.resize(channels_.size());
    channels_to_.resize(schedule_.num_ranks());
    for (int c = 0; c < channels_.size(); ++c) channels_to_[channels_.to(c)].push_back(c);
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      for (const Action& action : schedule_.actions[rank]) {
        for (const Pass& pass : action.passes()) {
          const auto output = output_of(pass, num_stages_);
          if (!output) continue;
          const int to = consumer_rank(placement_, *output);
          if (to != rank) sent_[channels_.find(rank, to)].push_back(*output);
        }
      }
    }
  }

  void lower_rank(int rank) {
    std::vector<Instruction>& program = program_.ranks[rank];
    std::map<int, Receiver> receivers;  // by channel
    for (const int c : channels_to_[rank]) {
      Receiver& receiver = receivers[c];
      for (int b = program_.channels[c].receive_buffers - 1; b >= 0; --b) receiver.free_buffers.push_back(b);
    }
    for (auto& [channel, receiver] : receivers) post_receives(program, channel, receiver);
    for (std::size_t step = 0; step < schedule_.actions[rank].size(); ++step) {
      const Action& action = schedule_.actions[rank][step];
      program.push_back({.op = Op::kCompute, .step = static_cast<std::int32_t>(step)});
      for (const Pass& pass : action.passes()) send_output(program, pass, rank);
      for (const Pass& pass : action.passes()) {
        const auto input = input_of(pass, num_stages_);
        if (!input) continue;
        const int from = producer_rank(placement_, *input);
        if (from == rank) continue;
        const int channel = channels_.find(from, rank);
        Receiver& receiver = receivers[channel];
        receiver.free_buffers.push_back(receiver.buffer_of[order_.arrival(*input)]);
        post_receives(program, channel, receiver);
      }
    }
  }

  /// Posts as many receives as there are free buffers: as early as the buffers allow, in the sender's order.
  void post_receives(std::vector<Instruction>& program, int channel, Receiver& receiver) {
    const std::vector<Message>& messages = sent_[channel];
    for (; !receiver.free_buffers.empty() && receiver.posted < messages.size(); ++receiver.posted) {
      const Message& message = messages[receiver.posted];
      const std::int32_t buffer = receiver.free_buffers.back();
      receiver.free_buffers.pop_back();
      receiver.buffer_of.push_back(buffer);
      program.push_back({.op = message.is_gradient ? Op::kReceiveBackward : Op::kReceiveForward,
                         .stage = message.is_gradient ? message.stage - 1 : message.stage + 1,
                         .micro_batch = message.micro_batch,
                         .channel = channel,
                         .buffer = buffer});
    }
  }

  void send_output(std::vector<Instruction>& program, const Pass& pass, int rank) {
    const auto output = output_of(pass, num_stages_);
    if (!output) return;
    const int to = consumer_rank(placement_, *output);
    if (to == rank) return;
    program.push_back({.op = output->is_gradient ? Op::kSendBackward : Op::kSendForward,
                       .stage = pass.stage,
                       .micro_batch = pass.micro_batch,
                       .channel = channels_.find(rank, to)});
  }

  /// At the end of every rank's program, one group for each set of ranks that share stages: the same order on
  /// all.
  void add_reductions() {
    std::vector<std::int32_t> groups(schedule_.num_ranks(), 0);
    for (const auto& [ranks, stages] : shared_stages(placement_)) {
      const auto reduction = static_cast<std::int32_t>(program_.reductions.size());
      program_.reductions.push_back({ranks});
      for (const std::int32_t rank : ranks) {
        for (const std::int32_t stage : stages) {
          program_.ranks[rank].push_back(
              {.op = Op::kReduceGradients, .stage = stage, .channel = reduction, .group = groups[rank]});
        }
        ++groups[rank];
      }
    }
  }

  const Schedule& schedule_;
  const Placement& placement_;
  const int num_stages_;
  const Channels channels_;
  const ReceiveOrder order_;
  std::vector<std::vector<Message>> sent_;     // [channel]
  std::vector<std::vector<int>> channels_to_;  // [rank]
  Program program_;
};

}  // namespace

Program lower(const Schedule& schedule, const LowerOptions& options) {
  VerifyOptions judged;
  judged.receive_buffers = options.receive_buffers;
  judged.max_diagnostics = 1;
  const Verdict verdict = verify(schedule, judged);
  if (!verdict.ok()) {
    const Diagnostic& first = verdict.diagnostics.front();
    throw InvalidConfig("cannot lower " + (schedule.name.empty() ? "the schedule" : schedule.name) + ": " +
                        std::string(rule_name(first.rule)) + ": " + first.message);
  }
  return Lowering(schedule, options).lower();
}

std::vector<Channel> required_channels(const Schedule& schedule) {
  return ReceiveOrder(schedule).channels();
}

std::string to_string(const Instruction& instruction, const std::vector<Action>& actions) {
  const std::string stage = std::to_string(instruction.stage);
  const std::string micro_batch = std::to_string(instruction.micro_batch);
  switch (instruction.op) {
    case Op::kCompute:
      return to_string(actions[instruction.step]);
    case Op::kSendForward:
      return stage + "SEND_F" + micro_batch;
    case Op::kReceiveForward:
      return stage + "RECV_F" + micro_batch;
    case Op::kSendBackward:
      return stage + "SEND_B" + micro_batch;
    case Op::kReceiveBackward:
      return stage + "RECV_B" + micro_batch;
    case Op::kReduceGradients:
      return stage + "REDUCE_GRAD";
  }
  return {};
}

}  // namespace counterflow
