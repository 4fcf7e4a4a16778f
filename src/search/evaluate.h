// How long an order takes: what a search asks millions of times.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "problem.h"

namespace counterflow::searching {

/// The makespan of an order that deadlocks.
constexpr Time kNever = std::numeric_limits<Time>::max() / 4;

/// Runs orders as simulate() runs schedules. Keeps its tables between calls. Used by one thread.
class Evaluator {
 public:
  explicit Evaluator(const Problem& problem);

  /// The makespan, or kNever where the order deadlocks. The order must have every pass once, on its stage's
  /// rank.
  Time evaluate(const Order& order) {
    return walk(order, [](int, std::size_t, const StepType&, Time, Time) {});
  }

  /// The same, and calls visit(rank, position, type, start, end) for each step, in an order in which each
  /// comes after all that it needs. During the visit, step_of(hop) is the micro-batch that the step's hop is
  /// of.
  template <typename Visit>
  Time walk(const Order& order, Visit&& visit);

  std::int32_t micro_batch(int hop) const { return count_[hop + 1]; }

  /// When an input of a hop arrived, after walk().
  Time arrival(int hop, int micro_batch) const { return arrival_[row(hop) + micro_batch]; }

  /// After walk(): the sum over the ranks of when their last steps ended.
  Time sum_of_ends() const;

 private:
  std::size_t row(int hop) const { return static_cast<std::size_t>(hop) * num_micro_batches_; }

  template <bool kChannels, typename Visit>
  void run(const std::vector<Step>& steps, int rank, Visit&& visit);
  template <bool kChannels>
  void send(int hop, Time end);
  void reset(const Order& order);

  const Problem& problem_;
  const StepType* types_;
  std::int32_t num_micro_batches_;
  std::vector<Time> arrival_;        // [hop * micro-batches + micro-batch]: of the input
  std::vector<std::int32_t> count_;  // [hop + 1]: how many have run; count_[0] is the number of micro-batches
  std::vector<std::size_t> position_;  // [rank]
  std::vector<Time> free_;             // [rank]
  std::vector<std::int32_t> lacks_;    // [rank] the hop whose next output it waits for; -2: none
  std::vector<std::int32_t> awake_;
  std::vector<std::int32_t> next_rank_;  // [hop]: where its output goes
  std::vector<Time> channel_free_;
};

template <typename Visit>
Time Evaluator::walk(const Order& order, Visit&& visit) {
  reset(order);
  const bool channels = problem_.num_channels() > 0;
  for (int rank = 0; rank < problem_.num_ranks(); ++rank) {
    awake_.push_back(rank);
    while (!awake_.empty()) {
      const int next = awake_.back();
      awake_.pop_back();
      channels ? run<true>(order[next], next, visit) : run<false>(order[next], next, visit);
    }
  }
  Time makespan = 0;
  for (int rank = 0; rank < problem_.num_ranks(); ++rank) {
    if (position_[rank] < order[rank].size()) return kNever;
    makespan = std::max(makespan, free_[rank]);
  }
  return makespan;
}

template <bool kChannels, typename Visit>
void Evaluator::run(const std::vector<Step>& steps, int rank, Visit&& visit) {
  std::size_t position = position_[rank];
  Time free = free_[rank];
  for (; position < steps.size(); ++position) {
    const StepType& type = types_[steps[position]];
    Time start = free;
    if (type.hop >= 0) {
      const std::int32_t k = count_[type.hop + 1];
      if (count_[type.hop] <= k) {
        lacks_[rank] = type.hop - 1;
        break;
      }
      start = std::max(start, arrival_[row(type.hop) + k]);
    }
    if (type.second_hop >= 0) {
      const std::int32_t k = count_[type.second_hop + 1];
      if (count_[type.second_hop] <= k) {
        lacks_[rank] = type.second_hop - 1;
        break;
      }
      start = std::max(start, arrival_[row(type.second_hop) + k]);
    }
    free = start + type.duration;
    visit(rank, position, type, start, free);
    if (type.hop >= 0) send<kChannels>(type.hop, free);
    if (type.second_hop >= 0) send<kChannels>(type.second_hop, free);
  }
  free_[rank] = free;
  position_[rank] = position;
}

template <bool kChannels>
void Evaluator::send(int hop, Time end) {
  const std::int32_t k = count_[hop + 1]++;
  const Problem::Transfer& transfer = problem_.transfer(hop);
  Time arrival = end + transfer.delay;
  if (kChannels && transfer.channel >= 0) {
    Time& free = channel_free_[transfer.channel];
    arrival = free = std::max(end, free) + transfer.delay;
  }
  arrival_[row(hop + 1) + k] = arrival;
  const std::int32_t next = next_rank_[hop];
  if (lacks_[next] == hop) {
    lacks_[next] = -2;
    awake_.push_back(next);
  }
}

}  // namespace counterflow::searching
