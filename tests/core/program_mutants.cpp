#include "program_mutants.h"

#include <algorithm>

namespace counterflow {
namespace {

using List = std::vector<Instruction>;

bool is_message(const Instruction& instruction) {
  return instruction.op != Op::kCompute && instruction.op != Op::kReduceGradients;
}

// All edits of one instruction.
class Editor {
 public:
  Editor(const Program& program, const Schedule& schedule, int rank, int at, std::vector<ProgramMutant>& out)
      : program_(program),
        schedule_(schedule),
        list_(program.ranks[rank]),
        size_(static_cast<int>(list_.size())),
        rank_(rank),
        at_(at),
        out_(out) {}

  void add_places() {
    add("dropped", [&](List& list) { list.erase(list.begin() + at_); });
    add("doubled", [&](List& list) { list.insert(list.begin() + at_, list_[at_]); });
    for (int to = 0; to < size_; ++to) {
      if (to == at_) continue;
      const std::string place = " position " + std::to_string(to);
      if (to > at_) add("swapped with" + place, [&](List& list) { std::swap(list[at_], list[to]); });
      add("moved to" + place, [&](List& list) {
        list.erase(list.begin() + at_);
        list.insert(list.begin() + to, list_[at_]);
      });
    }
  }

  void add_numbers() {
    const Instruction& one = list_[at_];
    if (one.op == Op::kCompute) {
      set("step", &Instruction::step, -1, static_cast<int>(schedule_.actions[rank_].size()));
      return;
    }
    set("stage", &Instruction::stage, -1, schedule_.num_stages());
    set("channel", &Instruction::channel, -1, static_cast<int>(program_.channels.size()));
    if (is_message(one)) set("micro-batch", &Instruction::micro_batch, -1, schedule_.num_micro_batches());
    if (one.buffer >= 0)
      set("buffer", &Instruction::buffer, -1, program_.channels[one.channel].receive_buffers);
  }

  void add_groups() {
    if (list_[at_].op == Op::kCompute) return;
    constexpr int kNew = 1000;
    set("group", &Instruction::group, -1, -1);
    set("group", &Instruction::group, kNew, kNew);
    if (at_ + 1 < size_ && list_[at_ + 1].op != Op::kCompute)
      add("grouped with the next", [&](List& list) { list[at_].group = list[at_ + 1].group = kNew; });
  }

 private:
  template <typename Edit>
  void add(const std::string& what, const Edit& edit) {
    out_.push_back({"rank " + std::to_string(rank_) + " position " + std::to_string(at_) + " " +
                        to_string(list_[at_], schedule_.actions[rank_]) + ": " + what,
                    program_});
    edit(out_.back().program.ranks[rank_]);
  }

  void set(const std::string& name, std::int32_t Instruction::*member, int from, int to) {
    for (int value = from; value <= to; ++value) {
      if (list_[at_].*member == value) continue;
      add(name + " " + std::to_string(value), [&](List& list) { list[at_].*member = value; });
    }
  }

  const Program& program_;
  const Schedule& schedule_;
  const List& list_;
  const int size_;
  const int rank_;
  const int at_;
  std::vector<ProgramMutant>& out_;
};

// Brings messages `first` to `last` of a channel together on one of its ends, as one group: the sends where
// the last was, the receives where the first or the last was.
void group_messages(List& list, int channel, int first, int last, int group, bool where_last) {
  std::vector<int> places;
  for (int at = 0; at < static_cast<int>(list.size()); ++at) {
    if (is_message(list[at]) && list[at].channel == channel) places.push_back(at);
  }
  if (last >= static_cast<int>(places.size())) return;
  List members;
  for (int i = last; i >= first; --i) {
    members.insert(members.begin(), list[places[i]]);
    members.front().group = group;
    list.erase(list.begin() + places[i]);
  }
  const int to = where_last ? places[last] - (last - first) : places[first];
  list.insert(list.begin() + to, members.begin(), members.end());
}

}  // namespace

std::vector<ProgramMutant> all_mutants(const Program& program, const Schedule& schedule) {
  std::vector<ProgramMutant> mutants;
  for (int rank = 0; rank < static_cast<int>(program.ranks.size()); ++rank) {
    for (int at = 0; at < static_cast<int>(program.ranks[rank].size()); ++at) {
      Editor editor(program, schedule, rank, at, mutants);
      editor.add_places();
      editor.add_numbers();
      editor.add_groups();
    }
  }
  return mutants;
}

ProgramMutant with_random_groups(const Program& program, std::mt19937& random) {
  const auto below = [&](std::size_t limit) { return static_cast<int>(random() % limit); };
  ProgramMutant mutant{"", program};
  const int edits = 1 + below(3);
  for (int edit = 0; edit < edits; ++edit) {
    const int c = below(program.channels.size());
    const Channel& channel = program.channels[c];
    const int first = below(std::max(channel.messages - 1, 1));
    const int last = first + 1 + below(2);
    const int group = 100 + edit;
    group_messages(mutant.program.ranks[channel.from], c, first, last, group, true);
    const bool both = below(8) != 0;
    if (both) group_messages(mutant.program.ranks[channel.to], c, first, last, group, below(2) == 0);
    mutant.what += "messages " + std::to_string(first) + " to " + std::to_string(last) + " of channel " +
                   std::to_string(c) + (both ? " grouped; " : " grouped by the sender only; ");
    if (below(2) == 0) continue;
    const int rank = below(program.ranks.size());
    List& list = mutant.program.ranks[rank];
    const int at = below(list.size() - 1);
    if (list[at].op == Op::kCompute || list[at + 1].op == Op::kCompute) continue;
    const int joined = std::max({list[at].group, list[at + 1].group, 200 + edit});
    list[at].group = list[at + 1].group = joined;
    mutant.what +=
        "positions " + std::to_string(at) + " and the next of rank " + std::to_string(rank) + " grouped; ";
  }
  return mutant;
}

Program with_one_receive_buffer(Program program) {
  for (Channel& channel : program.channels) channel.receive_buffers = std::min(channel.receive_buffers, 1);
  for (List& list : program.ranks) {
    for (Instruction& one : list) one.buffer = std::min(one.buffer, 0);
  }
  return program;
}

}  // namespace counterflow
