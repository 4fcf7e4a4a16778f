#include "program_units.h"

#include <algorithm>
#include <set>
#include <utility>

namespace counterflow {
namespace {

class Reader {
 public:
  Reader(const Program& program, const Schedule& schedule, int rank, Diagnostics& found)
      : program_(program),
        placement_(schedule.placement),
        actions_(schedule.actions[rank]),
        rank_(rank),
        found_(found) {
    result_.streams.emplace_back();
    for (std::size_t step = 0; step < actions_.size(); ++step) {
      for (const Pass& pass : actions_[step].passes()) {
        if (releases_activation(pass.kind)) last_gradient_[pass.stage] = static_cast<std::int32_t>(step);
      }
    }
  }

  RankUnits read(const Schedule& schedule) {
    const std::vector<Instruction>& program = program_.ranks[rank_];
    for (position_ = 0; position_ < static_cast<std::int32_t>(program.size()) && !failed_; ++position_) {
      const Instruction& one = program[position_];
      if (one.op == Op::kCompute) {
        add_compute(one);
      } else if (check_channel(one)) {
        add_transfer(one);
      }
    }
    if (!failed_ && next_step_ != static_cast<std::int32_t>(actions_.size())) {
      fail(Rule::kChannel,
           "expected " + std::to_string(actions_.size()) + " actions, found " + std::to_string(next_step_));
    }
    if (!failed_ && schedule.passes == Passes::kTraining) check_all_reduced();
    return std::move(result_);
  }

 private:
  using Buffer = std::pair<std::int32_t, std::int32_t>;  // channel, number

  void fail(Rule rule, const std::string& message) {
    failed_ = true;
    found_.add(rule, [&] { return Diagnostic{rule, rank_, position_, {}, message}; });
  }

  std::string name(const Instruction& one) const { return to_string(one, actions_); }

  std::int64_t key(const Message& message) const {
    const std::int64_t cell =
        static_cast<std::int64_t>(message.stage) * placement_.num_micro_batches() + message.micro_batch;
    return 2 * cell + (message.is_gradient ? 1 : 0);
  }

  void add_compute(const Instruction& one) {
    open_group_ = -1;
    if (one.step != next_step_ || one.step >= static_cast<std::int32_t>(actions_.size())) {
      return fail(Rule::kChannel, "expected the action of step " + std::to_string(next_step_) +
                                      ", found step " + std::to_string(one.step));
    }
    ++next_step_;
    const auto index = static_cast<std::int32_t>(result_.units.size());
    Unit unit{{position_}, {0}, {}};
    for (const Pass& pass : actions_[one.step].passes()) {
      const auto input = input_of(pass, placement_.num_stages());
      if (input && producer_rank(placement_, *input) != rank_) {
        const auto received = received_.find(key(*input));
        if (received == received_.end()) {
          return fail(Rule::kChannel, name(one) + " needs the message of " + name_of(*input) +
                                          ", which is not received before it");
        }
        unit.after.push_back(received->second.unit);
        freed_by_[received->second.buffer] = index;
        full_.erase(received->second.buffer);
      }
      if (const auto output = output_of(pass, placement_.num_stages())) produced_[key(*output)] = index;
    }
    last_compute_ = index;
    result_.streams[0].push_back(index);
    result_.units.push_back(std::move(unit));
  }

  /// Whether the instruction is on a channel or in a reduction that this rank is part of, on the right side
  /// of it.
  bool check_channel(const Instruction& one) {
    const Role role = role_of(one.op);
    const std::size_t count = role == Role::kReduce ? program_.reductions.size() : program_.channels.size();
    bool ok = one.channel >= 0 && static_cast<std::size_t>(one.channel) < count;
    if (ok && role == Role::kReduce) {
      const auto& members = program_.reductions[one.channel].ranks;
      ok = std::find(members.begin(), members.end(), rank_) != members.end();
    } else if (ok) {
      const Channel& channel = program_.channels[one.channel];
      const Message message = message_of(one);
      ok = (role == Role::kSend ? channel.from : channel.to) == rank_ && exists(message, placement_) &&
           channel.from == producer_rank(placement_, message) &&
           channel.to == consumer_rank(placement_, message);
    }
    if (!ok) {
      fail(Rule::kChannel,
           one.channel < 0
               ? name(one) + " is of no message or sum of gradients that this rank has part in"
               : name(one) + " is on channel " + std::to_string(one.channel) + ", which is not its own");
    }
    return ok;
  }

  void add_transfer(const Instruction& one) {
    if (one.group < 0 || one.group != open_group_) result_.units.emplace_back();
    open_group_ = one.group;
    const auto index = static_cast<std::int32_t>(result_.units.size()) - 1;
    Unit& unit = result_.units.back();
    unit.positions.push_back(position_);

    const Role role = role_of(one.op);
    const auto [stream, is_new] =
        result_.stream_of.try_emplace({role, one.channel}, static_cast<std::int32_t>(result_.streams.size()));
    if (is_new) result_.streams.emplace_back();
    if (std::find(unit.streams.begin(), unit.streams.end(), stream->second) == unit.streams.end()) {
      unit.streams.push_back(stream->second);
      result_.streams[stream->second].push_back(index);
    }
    End& end = result_.ends[{role, one.channel}];
    end.positions.push_back(position_);
    end.units.push_back(index);

    if (role == Role::kSend) return add_send(one, unit);
    if (role == Role::kReceive) return add_receive(one, unit, index);
    add_reduction(one, unit);
  }

  void add_send(const Instruction& one, Unit& unit) {
    const auto produced = produced_.find(key(message_of(one)));
    if (produced == produced_.end())
      return fail(Rule::kChannel, name(one) + " sends what has not been computed");
    unit.after.push_back(produced->second);
  }

  void add_receive(const Instruction& one, Unit& unit, std::int32_t index) {
    const Buffer buffer(one.channel, one.buffer);
    const std::int32_t count = program_.channels[one.channel].receive_buffers;
    if (one.buffer < 0 || one.buffer >= count) {
      return fail(Rule::kReceiveBuffers, name(one) + " needs a buffer from 0 to " +
                                             std::to_string(count - 1) + ", found " +
                                             std::to_string(one.buffer));
    }
    if (!full_.insert(buffer).second) {
      return fail(Rule::kReceiveBuffers,
                  name(one) + " overwrites buffer " + std::to_string(one.buffer) + " before it is consumed");
    }
    received_[key(message_of(one))] = {index, buffer};
    if (const auto freed = freed_by_.find(buffer); freed != freed_by_.end())
      unit.after.push_back(freed->second);
  }

  void add_reduction(const Instruction& one, Unit& unit) {
    const auto last = last_gradient_.find(one.stage);
    if (last != last_gradient_.end() && last->second >= next_step_) {
      return fail(Rule::kChannel, name(one) + " comes before the stage's last gradient");
    }
    reduced_.insert(one.stage);
    if (last_compute_ >= 0) unit.after.push_back(last_compute_);
  }

  void check_all_reduced() {
    if (placement_.num_directions() == 1) return;
    for (const std::int32_t stage : placement_.stages_on(rank_)) {
      if (placement_.ranks_of(stage).size() > 1 && reduced_.count(stage) == 0) {
        fail(Rule::kChannel, "stage " + std::to_string(stage) + " lives on several ranks and is not reduced");
      }
    }
  }

  struct Received {
    std::int32_t unit;
    Buffer buffer;
  };

  const Program& program_;
  const Placement& placement_;
  const std::vector<Action>& actions_;
  const int rank_;
  Diagnostics& found_;
  RankUnits result_;

  std::int32_t position_ = 0;
  std::int32_t next_step_ = 0;
  std::int32_t last_compute_ = -1;
  std::int32_t open_group_ = -1;
  bool failed_ = false;
  std::map<std::int32_t, std::int32_t> last_gradient_;  // stage → step
  std::map<std::int64_t, std::int32_t> produced_;       // message → compute unit
  std::map<std::int64_t, Received> received_;           // message → where
  std::map<Buffer, std::int32_t> freed_by_;             // → compute unit
  std::set<Buffer> full_;
  std::set<std::int32_t> reduced_;
};

}  // namespace

Role role_of(Op op) {
  if (op == Op::kReduceGradients) return Role::kReduce;
  return op == Op::kSendForward || op == Op::kSendBackward ? Role::kSend : Role::kReceive;
}

Message message_of(const Instruction& transfer) {
  switch (transfer.op) {
    case Op::kReceiveForward:
      return {transfer.stage - 1, transfer.micro_batch, false};
    case Op::kReceiveBackward:
      return {transfer.stage + 1, transfer.micro_batch, true};
    case Op::kSendBackward:
      return {transfer.stage, transfer.micro_batch, true};
    default:
      return {transfer.stage, transfer.micro_batch, false};
  }
}

bool exists(const Message& message, const Placement& placement) {
  const int first = message.is_gradient ? 1 : 0;
  const int last = placement.num_stages() - (message.is_gradient ? 1 : 2);
  return message.stage >= first && message.stage <= last && message.micro_batch >= 0 &&
         message.micro_batch < placement.num_micro_batches();
}

std::string name_of(const Message& message) {
  return std::to_string(message.stage) + (message.is_gradient ? "SEND_B" : "SEND_F") +
         std::to_string(message.micro_batch);
}

const End& RankUnits::end(Role role, std::int32_t channel) const {
  static const End kEmpty;
  const auto found = ends.find({role, channel});
  return found == ends.end() ? kEmpty : found->second;
}

RankUnits read_units(const Program& program, const Schedule& schedule, int rank, Diagnostics& found) {
  return Reader(program, schedule, rank, found).read(schedule);
}

}  // namespace counterflow
