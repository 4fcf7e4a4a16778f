// A slow, obvious judge of small schedules, for comparison with verify().
//
// It shares nothing with the library but the data: the lists of actions and, for each direction, the array of
// the stages' ranks. Nothing here is clever on purpose; do not make it so.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "counterflow/schedule.h"

namespace counterflow {

class BruteForceModel {
 public:
  using Link = std::pair<int, int>;     ///< sender, receiver
  using Buffers = std::map<Link, int>;  ///< receive buffers of a link; a link not named has no limit
  static constexpr int kUnlimited = 1 << 30;

  /// The schedule must outlive the model. Any nonsense is allowed.
  explicit BruteForceModel(const Schedule& schedule) : schedule_(schedule) {}

  /// A rule of what has to be done where and in which order, by its name, and what breaks it.
  struct Breach {
    std::string rule;
    std::string text;
  };
  std::vector<Breach> broken_rules() const;

  /// Whether every rank gets to the end of its list: each runs its own in order; what it sends goes on one
  /// first-in-first-out link for each directed pair of ranks and leaves only into a free receive buffer
  /// there; a buffer is free again at the end of the action that needed its message; no action waits for a
  /// send.
  bool runs_to_end(const Buffers& buffers) const;
  bool runs_to_end(int buffers_of_each_link = kUnlimited) const;

  /// What a rank that cannot go on lacks, and the rank that should make it.
  struct Wait {
    int rank;
    std::string thing;  ///< "2F5", or "2G5" for the gradient that stage 2's B or I makes
    int from;
  };

  /// What all ranks lack when nothing can move any more, with buffers without limit.
  std::vector<Wait> waits_when_stuck() const;

  /// The number of ranks in the shortest circle of such waits; 0 where there is none.
  int shortest_circle() const;

  /// The fewest receive buffers for each link that carries messages with which the schedule, which must run
  /// to its end without limit, still does; found by trying.
  Buffers least_buffers() const;

  /// The most stage activations that a rank holds, each from its F to the end of its B or W.
  int peak_activations() const;

 private:
  using Thing = std::tuple<char, int, int>;  // letter, stage, micro-batch: what a pass leaves behind
  struct LinkState {
    std::deque<Thing> outbox;
    std::multiset<Thing> received;
  };
  struct State {
    std::vector<std::size_t> next;      // [rank] index of the action to run
    std::vector<std::set<Thing>> made;  // [rank] by its own passes
    std::map<Link, LinkState> links;
  };

  State run(const Buffers& buffers) const;
  bool exists(const Pass& pass) const;
  int rank_of(int stage, int micro_batch) const;
  std::vector<Link> links_used() const;
  // What a pass takes from another stage; nothing where it is the first.
  static bool takes(const Pass& pass, int last_stage, Thing& input);
  bool can_start(const State& state, int rank, const Action& action) const;
  void finish(State& state, int rank, const Action& action) const;
  void check_pass_counts(std::vector<Breach>& broken) const;
  void check_cell(const std::map<Thing, int>& count, int stage, int micro_batch,
                  std::vector<Breach>& broken) const;
  void check_places(std::vector<Breach>& broken) const;
  void check_orders(std::vector<Breach>& broken) const;

  const Schedule& schedule_;
};

}  // namespace counterflow
