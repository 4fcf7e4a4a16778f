#include <algorithm>
#include <string>
#include <vector>

#include "counterflow/verify.h"
#include "diagnostics.h"
#include "program_units.h"

namespace counterflow {
namespace {

class ProgramVerifier {
 public:
  ProgramVerifier(const Program& program, const Schedule& schedule, std::optional<int> max_resident)
      : program_(program),
        schedule_(schedule),
        max_resident_(max_resident),
        found_(VerifyOptions{}.max_diagnostics) {}

  Verdict verify() {
    if (program_.ranks.size() != static_cast<std::size_t>(schedule_.num_ranks())) {
      report(Rule::kChannel, -1, -1,
             "expected programs of " + std::to_string(schedule_.num_ranks()) + " ranks, found " +
                 std::to_string(program_.ranks.size()));
      return found_.take();
    }
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      ranks_.push_back(read_units(program_, schedule_, rank, found_));
    }
    if (found_.any()) return found_.take();
    for (std::size_t c = 0; c < program_.channels.size(); ++c) match_channel(static_cast<std::int32_t>(c));
    for (std::size_t r = 0; r < program_.reductions.size(); ++r)
      match_reduction(static_cast<std::int32_t>(r));
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) check_residency(rank);
    if (!found_.any()) run();
    return found_.take();
  }

 private:
  void report(Rule rule, int rank, std::int32_t position, const std::string& message) {
    found_.add(rule, [&] { return Diagnostic{rule, rank, position, {}, message}; });
  }

  const Instruction& at(int rank, std::int32_t position) const { return program_.ranks[rank][position]; }

  /// Both sides of a channel must name the same messages in the same order, and group them alike.
  void match_channel(std::int32_t c) {
    const Channel& channel = program_.channels[c];
    const End& sends = ranks_[channel.from].end(Role::kSend, c);
    const End& receives = ranks_[channel.to].end(Role::kReceive, c);
    for (std::size_t i = 0; i < std::min(sends.positions.size(), receives.positions.size()); ++i) {
      const Message sent = message_of(at(channel.from, sends.positions[i]));
      const Message received = message_of(at(channel.to, receives.positions[i]));
      if (sent == received) continue;
      return report(Rule::kChannel, channel.to, receives.positions[i],
                    "message " + std::to_string(i) + " from rank " + std::to_string(channel.from) + " is " +
                        name_of(sent) + ", found a receive for " + name_of(received));
    }
    if (sends.positions.size() != receives.positions.size()) {
      return report(Rule::kChannel, channel.to, -1,
                    "expected " + std::to_string(sends.positions.size()) + " receives from rank " +
                        std::to_string(channel.from) + ", found " +
                        std::to_string(receives.positions.size()));
    }
    match_groups(channel.from, sends, channel.to, receives);
  }

  /// All members of a reduction must sum the same stages in the same order, and group them alike.
  void match_reduction(std::int32_t r) {
    const std::vector<std::int32_t>& members = program_.reductions[r].ranks;
    const int first_rank = members.front();
    const End& first = ranks_[first_rank].end(Role::kReduce, r);
    for (const std::int32_t rank : members) {
      const End& other = ranks_[rank].end(Role::kReduce, r);
      const bool same = std::equal(
          first.positions.begin(), first.positions.end(), other.positions.begin(), other.positions.end(),
          [&](std::int32_t a, std::int32_t b) { return at(first_rank, a).stage == at(rank, b).stage; });
      if (same) {
        match_groups(first_rank, first, rank, other);
      } else {
        report(Rule::kChannel, rank, -1,
               "reduces other stages, or in another order, than rank " + std::to_string(first_rank));
      }
    }
  }

  void match_groups(int rank, const End& end, int other_rank, const End& other) {
    for (std::size_t i = 1; i < end.units.size(); ++i) {
      const bool joined = end.units[i] == end.units[i - 1];
      if (joined == (other.units[i] == other.units[i - 1])) continue;
      return report(Rule::kGroup, other_rank, other.positions[i],
                    to_string(at(other_rank, other.positions[i]), schedule_.actions[other_rank]) + " is " +
                        (joined ? "apart from" : "in a group with") +
                        " the transfer before it, and the other way round on rank " + std::to_string(rank));
    }
  }

  void check_residency(int rank) {
    const int needed = static_cast<int>(ranks_[rank].streams.size()) - 1;
    if (!max_resident_ || needed <= *max_resident_) return;
    report(Rule::kResidency, rank, -1,
           std::to_string(needed) + " transfers may wait at once, one for each stream, and the device runs " +
               std::to_string(*max_resident_) + ": the one that is needed may never get its turn");
  }

  /// Starts and ends units until nothing moves. Every stream runs its units in order; a transfer stays on the
  /// device until its peers are there.
  void run() {
    for (const RankUnits& rank : ranks_) heads_.emplace_back(rank.streams.size(), 0);
    for (bool moved = true; moved;) {
      moved = false;
      for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
        for (std::size_t stream = 0; stream < ranks_[rank].streams.size(); ++stream) {
          while (step(rank, stream)) moved = true;
        }
      }
    }
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      const auto& units = ranks_[rank].units;
      const auto stuck =
          std::find_if(units.begin(), units.end(), [](const Unit& unit) { return !unit.ended; });
      if (stuck == units.end()) continue;
      const std::int32_t position = stuck->positions.front();
      report(Rule::kDeadlock, rank, position,
             "stops at " + to_string(at(rank, position), schedule_.actions[rank]));
    }
  }

  /// Moves the unit at a stream's head on; true where something changed.
  bool step(int rank, std::size_t stream) {
    const std::vector<std::int32_t>& queue = ranks_[rank].streams[stream];
    std::size_t& head = heads_[rank][stream];
    if (head == queue.size()) return false;
    Unit& unit = ranks_[rank].units[queue[head]];
    if (!unit.started) {
      if (!may_start(rank, queue[head])) return false;
      unit.started = true;
    } else if (!unit.ended) {
      if (stream != 0 && !meets_its_peers(rank, unit)) return false;
      unit.ended = true;
    } else {
      ++head;
    }
    return true;
  }

  /// Whether a unit is at the head of all of its streams and what it waits for has ended.
  bool may_start(int rank, std::int32_t index) const {
    const RankUnits& own = ranks_[rank];
    const Unit& unit = own.units[index];
    const auto is_at_head = [&](std::int32_t stream) {
      const std::size_t head = heads_[rank][stream];
      return head < own.streams[stream].size() && own.streams[stream][head] == index;
    };
    return std::all_of(unit.streams.begin(), unit.streams.end(), is_at_head) &&
           std::all_of(unit.after.begin(), unit.after.end(),
                       [&](std::int32_t one) { return own.units[one].ended; });
  }

  /// Whether all operations of a transfer unit have their peers on the device.
  bool meets_its_peers(int rank, const Unit& unit) const {
    return std::all_of(unit.positions.begin(), unit.positions.end(), [&](std::int32_t position) {
      const Instruction& one = at(rank, position);
      const Role role = role_of(one.op);
      const auto& mine = ranks_[rank].end(role, one.channel).positions;
      const auto place = std::lower_bound(mine.begin(), mine.end(), position) - mine.begin();
      const auto is_there = [&](Role peer_role, int peer) {
        return ranks_[peer].units[ranks_[peer].end(peer_role, one.channel).units[place]].started;
      };
      if (role == Role::kSend) return is_there(Role::kReceive, program_.channels[one.channel].to);
      if (role == Role::kReceive) return is_there(Role::kSend, program_.channels[one.channel].from);
      const auto& members = program_.reductions[one.channel].ranks;
      return std::all_of(members.begin(), members.end(),
                         [&](int peer) { return is_there(Role::kReduce, peer); });
    });
  }

  const Program& program_;
  const Schedule& schedule_;
  const std::optional<int> max_resident_;
  Diagnostics found_;
  std::vector<RankUnits> ranks_;
  std::vector<std::vector<std::size_t>> heads_;  // [rank][stream]
};

}  // namespace

Verdict verify(const Program& program, const Schedule& schedule, std::optional<int> max_resident) {
  return ProgramVerifier(program, schedule, max_resident).verify();
}

}  // namespace counterflow
