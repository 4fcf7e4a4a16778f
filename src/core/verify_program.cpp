#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "counterflow/verify.h"
#include "dataflow.h"
#include "diagnostics.h"

namespace counterflow {
namespace {

bool is_send(Op op) {
  return op == Op::kSendForward || op == Op::kSendBackward;
}

/// The message that a transfer moves, named by its producer's stage.
Message message_of(const Instruction& instruction) {
  const bool is_gradient = instruction.op == Op::kSendBackward || instruction.op == Op::kReceiveBackward;
  std::int32_t stage = instruction.stage;
  if (instruction.op == Op::kReceiveForward) --stage;
  if (instruction.op == Op::kReceiveBackward) ++stage;
  return {stage, instruction.micro_batch, is_gradient};
}

std::string name_of(const Message& message) {
  return to_string(
      message.is_gradient
          ? Instruction{.op = Op::kSendBackward, .stage = message.stage, .micro_batch = message.micro_batch}
          : Instruction{.op = Op::kSendForward, .stage = message.stage, .micro_batch = message.micro_batch},
      {});
}

/// What the device runs as one: a compute action, or the transfers of one group on their streams.
struct Unit {
  std::vector<std::int32_t> positions;  // in the rank's program
  std::vector<std::int32_t> streams;    // that it occupies
  std::vector<std::int32_t> after;      // units of the same rank that must have ended first
  bool started = false;
  bool ended = false;
};

/// One end of a channel, or one rank's part in a reduction: the units that use it in order.
struct End {
  std::vector<std::int32_t> unit_of;      // [operation]
  std::vector<std::int32_t> position_of;  // [operation]
};

class ProgramVerifier {
 public:
  ProgramVerifier(const Program& program, const Schedule& schedule, std::optional<int> max_resident)
      : program_(program),
        schedule_(schedule),
        placement_(schedule.placement),
        max_resident_(max_resident),
        found_(VerifyOptions{}.max_diagnostics) {}

  Verdict verify() {
    if (program_.ranks.size() != static_cast<std::size_t>(schedule_.num_ranks())) {
      report(Rule::kChannel, -1, -1,
             "expected programs of " + std::to_string(schedule_.num_ranks()) + " ranks, found " +
                 std::to_string(program_.ranks.size()));
      return found_.take();
    }
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) read_rank(rank);
    if (found_.any()) return found_.take();
    for (std::size_t c = 0; c < program_.channels.size(); ++c) match_channel(static_cast<int>(c));
    for (std::size_t r = 0; r < program_.reductions.size(); ++r) match_reduction(static_cast<int>(r));
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) check_residency(rank);
    if (!found_.any()) run();
    return found_.take();
  }

 private:
  struct Rank {
    std::vector<Unit> units;
    std::vector<std::vector<std::int32_t>> streams;  // [stream][place]: units; stream 0 computes
    std::map<std::pair<int, int>, int> stream_of;    // (0 send, 1 receive, 2 reduction; channel) → stream
  };

  void report(Rule rule, int rank, std::int64_t position, const std::string& message) {
    found_.add(rule, [&] {
      return Diagnostic{rule, rank, static_cast<std::int32_t>(position), {}, message};
    });
  }

  int stream_of(Rank& rank, int kind, int channel) {
    const auto [place, is_new] =
        rank.stream_of.try_emplace({kind, channel}, static_cast<int>(rank.streams.size()));
    if (is_new) rank.streams.emplace_back();
    return place->second;
  }

  /// Cuts a rank's program into units with what each waits for, and checks what concerns this rank alone.
  void read_rank(int rank_index) {
    ranks_.resize(schedule_.num_ranks());
    Rank& rank = ranks_[rank_index];
    rank.streams.emplace_back();
    const std::vector<Action>& actions = schedule_.actions[rank_index];
    const std::vector<Instruction>& program = program_.ranks[rank_index];

    std::map<std::pair<std::int64_t, bool>, std::int32_t> produced_by;  // message → compute unit
    std::map<std::pair<std::int64_t, bool>, std::int32_t> received_by;  // message → receive unit
    std::map<std::pair<int, int>, std::int64_t> in_buffer;              // (channel, buffer) → message + 1
    std::map<std::pair<int, int>, std::int32_t> freed_by;               // (channel, buffer) → compute unit
    std::map<std::pair<std::int64_t, bool>, std::pair<int, int>> buffer_of;
    const auto key = [&](const Message& m) {
      return std::pair(static_cast<std::int64_t>(m.stage) * placement_.num_micro_batches() + m.micro_batch,
                       m.is_gradient);
    };
    std::set<std::int32_t> reduced;
    std::int32_t next_step = 0;
    std::int32_t last_compute = -1;
    std::int32_t open_group = -1;

    for (std::size_t position = 0; position < program.size(); ++position) {
      const Instruction& one = program[position];
      const auto where = static_cast<std::int64_t>(position);
      if (one.op == Op::kCompute) {
        open_group = -1;
        if (one.step != next_step++ || one.step >= static_cast<std::int32_t>(actions.size())) {
          return report(Rule::kChannel, rank_index, where,
                        "expected the action of step " + std::to_string(next_step - 1) + ", found step " +
                            std::to_string(one.step));
        }
        Unit unit{{static_cast<std::int32_t>(position)}, {0}, {}};
        const auto index = static_cast<std::int32_t>(rank.units.size());
        for (const Pass& pass : actions[one.step].passes()) {
          const auto input = input_of(pass, placement_.num_stages());
          if (input && producer_rank(placement_, *input) != rank_index) {
            const auto received = received_by.find(key(*input));
            if (received == received_by.end()) {
              return report(Rule::kChannel, rank_index, where,
                            to_string(actions[one.step]) + " needs " + name_of(*input) +
                                ", which is not received before it");
            }
            unit.after.push_back(received->second);
            const auto buffer = buffer_of[key(*input)];
            freed_by[buffer] = index;
            in_buffer[buffer] = 0;
          }
          if (const auto output = output_of(pass, placement_.num_stages())) produced_by[key(*output)] = index;
        }
        last_compute = index;
        rank.streams[0].push_back(index);
        rank.units.push_back(std::move(unit));
        continue;
      }

      const bool is_reduction = one.op == Op::kReduceGradients;
      const auto limit =
          static_cast<std::int32_t>(is_reduction ? program_.reductions.size() : program_.channels.size());
      if (one.channel < 0 || one.channel >= limit || !is_mine(one, rank_index)) {
        return report(Rule::kChannel, rank_index, where,
                      to_string(one, actions) + " is on channel " + std::to_string(one.channel) +
                          ", which is not this rank's for it");
      }
      if (one.group < 0 || one.group != open_group) {
        rank.units.emplace_back();
        open_group = one.group;
      }
      Unit& unit = rank.units.back();
      const auto index = static_cast<std::int32_t>(rank.units.size()) - 1;
      const int kind = is_reduction ? 2 : is_send(one.op) ? 0 : 1;
      const int stream = stream_of(rank, kind, one.channel);
      unit.positions.push_back(static_cast<std::int32_t>(position));
      if (std::find(unit.streams.begin(), unit.streams.end(), stream) == unit.streams.end()) {
        unit.streams.push_back(stream);
        rank.streams[stream].push_back(index);
      }
      End& end = ends_[{kind, one.channel, rank_index}];
      end.unit_of.push_back(index);
      end.position_of.push_back(static_cast<std::int32_t>(position));

      const Message message = message_of(one);
      if (is_reduction) {
        reduced.insert(one.stage);
        if (last_compute >= 0) unit.after.push_back(last_compute);
        if (next_step != static_cast<std::int32_t>(actions.size()) &&
            writes_gradient(actions, next_step, one.stage)) {
          return report(Rule::kChannel, rank_index, where,
                        to_string(one, actions) + " comes before the last gradient of stage " +
                            std::to_string(one.stage));
        }
      } else if (is_send(one.op)) {
        const auto produced = produced_by.find(key(message));
        if (produced == produced_by.end()) {
          return report(Rule::kChannel, rank_index, where,
                        to_string(one, actions) + " sends what has not been computed");
        }
        unit.after.push_back(produced->second);
      } else {
        const std::pair buffer(one.channel, one.buffer);
        if (one.buffer < 0 || one.buffer >= program_.channels[one.channel].receive_buffers ||
            in_buffer[buffer] != 0) {
          return report(Rule::kReceiveBuffers, rank_index, where,
                        to_string(one, actions) + " needs a free buffer below " +
                            std::to_string(program_.channels[one.channel].receive_buffers) +
                            ", found buffer " + std::to_string(one.buffer) +
                            (one.buffer < 0 ? "" : ", which may still hold another message"));
        }
        in_buffer[buffer] = key(message).first + 1;
        buffer_of[key(message)] = buffer;
        received_by[key(message)] = index;
        if (const auto freed = freed_by.find(buffer); freed != freed_by.end())
          unit.after.push_back(freed->second);
      }
    }
    if (next_step != static_cast<std::int32_t>(actions.size())) {
      report(Rule::kChannel, rank_index, static_cast<std::int64_t>(program.size()),
             "expected " + std::to_string(actions.size()) + " actions, found " + std::to_string(next_step));
    }
    check_all_reduced(rank_index, reduced);
  }

  /// Whether the instruction is on a channel or in a reduction that this rank is part of, on the right side
  /// of it.
  bool is_mine(const Instruction& one, int rank) const {
    if (one.op == Op::kReduceGradients) {
      const auto& members = program_.reductions[one.channel].ranks;
      return std::find(members.begin(), members.end(), rank) != members.end();
    }
    const Message message = message_of(one);
    const int last_stage = placement_.num_stages() - 1;
    const bool exists = message.micro_batch >= 0 && message.micro_batch < placement_.num_micro_batches() &&
                        message.stage >= (message.is_gradient ? 1 : 0) &&
                        message.stage <= (message.is_gradient ? last_stage : last_stage - 1);
    const Channel& channel = program_.channels[one.channel];
    return exists && (is_send(one.op) ? channel.from : channel.to) == rank &&
           channel.from == producer_rank(placement_, message) &&
           channel.to == consumer_rank(placement_, message);
  }

  static bool writes_gradient(const std::vector<Action>& actions, std::int32_t from, std::int32_t stage) {
    return std::any_of(actions.begin() + from, actions.end(), [&](const Action& action) {
      const auto passes = action.passes();
      return std::any_of(passes.begin(), passes.end(), [&](const Pass& pass) {
        return pass.stage == stage && releases_activation(pass.kind);
      });
    });
  }

  void check_all_reduced(int rank, const std::set<std::int32_t>& reduced) {
    if (schedule_.passes == Passes::kForward || placement_.num_directions() == 1) return;
    for (const std::int32_t stage : placement_.stages_on(rank)) {
      if (placement_.ranks_of(stage).size() > 1 && reduced.count(stage) == 0) {
        report(Rule::kChannel, rank, -1,
               "stage " + std::to_string(stage) + " lives on several ranks and is not reduced");
      }
    }
  }

  const Instruction& at(int rank, std::int32_t position) const { return program_.ranks[rank][position]; }

  /// Both ends of a channel must name the same messages in the same order, and group them alike.
  void match_channel(int c) {
    const Channel& channel = program_.channels[c];
    const End& sends = ends_[{0, c, channel.from}];
    const End& receives = ends_[{1, c, channel.to}];
    const std::size_t common = std::min(sends.unit_of.size(), receives.unit_of.size());
    for (std::size_t i = 0; i < common; ++i) {
      const Message sent = message_of(at(channel.from, sends.position_of[i]));
      const Message received = message_of(at(channel.to, receives.position_of[i]));
      if (!(sent == received)) {
        report(Rule::kChannel, channel.to, receives.position_of[i],
               "message " + std::to_string(i) + " from rank " + std::to_string(channel.from) + " is " +
                   name_of(sent) + ", found a receive of " + name_of(received));
        return;
      }
    }
    if (sends.unit_of.size() != receives.unit_of.size()) {
      report(Rule::kChannel, channel.to, -1,
             "expected " + std::to_string(sends.unit_of.size()) + " receives from rank " +
                 std::to_string(channel.from) + ", found " + std::to_string(receives.unit_of.size()));
      return;
    }
    match_groups(channel.from, sends, channel.to, receives);
  }

  void match_reduction(int r) {
    const std::vector<std::int32_t>& members = program_.reductions[r].ranks;
    const End& first = ends_[{2, r, members.front()}];
    for (const std::int32_t rank : members) {
      const End& other = ends_[{2, r, rank}];
      bool same = other.unit_of.size() == first.unit_of.size();
      for (std::size_t i = 0; same && i < first.unit_of.size(); ++i) {
        same = at(rank, other.position_of[i]).stage == at(members.front(), first.position_of[i]).stage;
      }
      if (!same) {
        report(Rule::kChannel, rank, -1,
               "reduces other stages, or in another order, than rank " + std::to_string(members.front()));
      } else {
        match_groups(members.front(), first, rank, other);
      }
    }
  }

  void match_groups(int rank, const End& end, int other_rank, const End& other) {
    for (std::size_t i = 1; i < end.unit_of.size(); ++i) {
      const bool joined = end.unit_of[i] == end.unit_of[i - 1];
      if (joined == (other.unit_of[i] == other.unit_of[i - 1])) continue;
      report(Rule::kGroup, other_rank, other.position_of[i],
             to_string(at(other_rank, other.position_of[i]), schedule_.actions[other_rank]) + " is " +
                 (joined ? "apart from" : "in a group with") +
                 " the transfer before it, and the other way round on rank " + std::to_string(rank));
      return;
    }
  }

  void check_residency(int rank) {
    const int needed = static_cast<int>(ranks_[rank].streams.size()) - 1;
    if (!max_resident_ || needed <= *max_resident_) return;
    report(Rule::kResidency, rank, -1,
           std::to_string(needed) + " transfers may wait at once, one for each stream, and the device runs " +
               std::to_string(*max_resident_) + ": the one that is needed may never get its turn");
  }

  /// Whether a unit is at the head of all of its streams and what it waits for has ended.
  bool may_start(int rank_index, const Unit& unit, std::int32_t index) const {
    const Rank& rank = ranks_[rank_index];
    return std::all_of(unit.streams.begin(), unit.streams.end(),
                       [&](std::int32_t stream) {
                         const std::size_t head = heads_[rank_index][stream];
                         return head < rank.streams[stream].size() && rank.streams[stream][head] == index;
                       }) &&
           std::all_of(unit.after.begin(), unit.after.end(),
                       [&](std::int32_t one) { return rank.units[one].ended; });
  }

  /// Whether all operations of a transfer unit have their peers on the device.
  bool meets_its_peers(int rank_index, const Unit& unit) {
    return std::all_of(unit.positions.begin(), unit.positions.end(), [&](std::int32_t position) {
      const Instruction& one = at(rank_index, position);
      const int kind = one.op == Op::kReduceGradients ? 2 : is_send(one.op) ? 0 : 1;
      const End& mine = ends_[{kind, one.channel, rank_index}];
      const auto place = std::lower_bound(mine.position_of.begin(), mine.position_of.end(), position) -
                         mine.position_of.begin();
      const auto peer_is_there = [&](int peer_kind, int peer) {
        return ranks_[peer].units[ends_[{peer_kind, one.channel, peer}].unit_of[place]].started;
      };
      if (kind == 0) return peer_is_there(1, program_.channels[one.channel].to);
      if (kind == 1) return peer_is_there(0, program_.channels[one.channel].from);
      const auto& members = program_.reductions[one.channel].ranks;
      return std::all_of(members.begin(), members.end(), [&](int peer) { return peer_is_there(2, peer); });
    });
  }

  /// Starts and ends units until nothing moves. Every stream runs its units in order, the transfers among
  /// them stay on the device until their peers are there.
  void run() {
    for (Rank& rank : ranks_) heads_.emplace_back(rank.streams.size(), 0);
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t r = 0; r < ranks_.size(); ++r) {
        for (std::size_t stream = 0; stream < ranks_[r].streams.size(); ++stream) {
          while (step(static_cast<int>(r), stream)) moved = true;
        }
      }
    }
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      for (const Unit& unit : ranks_[r].units) {
        if (unit.ended) continue;
        const std::int32_t position = unit.positions.front();
        report(Rule::kDeadlock, static_cast<int>(r), position,
               "stops at " + to_string(at(static_cast<int>(r), position), schedule_.actions[r]));
        break;
      }
    }
  }

  /// Moves the unit at a stream's head on; true where something changed.
  bool step(int rank_index, std::size_t stream) {
    Rank& rank = ranks_[rank_index];
    std::size_t& head = heads_[rank_index][stream];
    if (head == rank.streams[stream].size()) return false;
    const std::int32_t index = rank.streams[stream][head];
    Unit& unit = rank.units[index];
    if (unit.ended) {
      ++head;
      return true;
    }
    if (!unit.started) {
      if (!may_start(rank_index, unit, index)) return false;
      unit.started = true;
      return true;
    }
    if (stream != 0 && !meets_its_peers(rank_index, unit)) return false;
    unit.ended = true;
    ++head;
    return true;
  }

  const Program& program_;
  const Schedule& schedule_;
  const Placement& placement_;
  const std::optional<int> max_resident_;
  Diagnostics found_;
  std::vector<Rank> ranks_;
  std::map<std::tuple<int, int, int>, End> ends_;  // (0 send, 1 receive, 2 reduction; channel; rank)
  std::vector<std::vector<std::size_t>> heads_;    // [rank][stream]
};

}  // namespace

Verdict verify(const Program& program, const Schedule& schedule, std::optional<int> max_resident) {
  return ProgramVerifier(program, schedule, max_resident).verify();
}

}  // namespace counterflow
