// When each step of an order runs, and how long it takes from there to the end: what a small change of the
// order would cost, without running it (Taillard's estimate for the job shop: EJOR 64 (1993), section 3).
#pragma once

#include <vector>

#include "evaluate.h"
#include "moves.h"

namespace counterflow::searching {

/// Used by one thread.
class Timing {
 public:
  explicit Timing(const Problem& problem);

  /// Takes the times of an order. Returns its makespan, or kNever where it deadlocks: then there are none.
  Time settle(const Order& order);

  /// The sum over the ranks of when their last steps end.
  Time sum_of_ends() const { return evaluator_.sum_of_ends(); }

  /// The longest path through what changes, or about that: arrivals are taken as they are, except between
  /// steps of the change. `change` is of the settled order and not yet applied.
  Time estimate(const Order& order, const Change& change);

  struct Place {
    std::int32_t rank = 0;
    std::int32_t position = 0;
  };

  /// The steps of a longest path, the last first.
  const std::vector<Place>& critical_path() const { return path_; }

  Time makespan() const { return makespan_; }
  Time start(int rank, std::size_t position) const { return nodes_[rank][position].start; }

 private:
  struct Node {
    Time start = 0;
    Time end = 0;
    Time after_outputs = 0;      // longest path from the end through what it sends
    Time tail = 0;               // longest path from the end
    std::int32_t k = -1;         // micro-batch of the hop
    std::int32_t second_k = -1;  // and of the second
  };

  std::size_t cell(int hop, int k) const {
    return static_cast<std::size_t>(hop) * problem_.num_micro_batches() + k;
  }
  const Node& node_of(int hop, int k) const {
    return nodes_[problem_.rank_of_hop(hop)][position_[cell(hop, k)]];
  }
  Time after_output(int hop, int k, const Order& order) const;
  void find_tails(const Order& order);
  void find_path(const Order& order);
  bool step_back(const StepType& type, Place& place) const;

  const Problem& problem_;
  Evaluator evaluator_;
  Time makespan_ = 0;
  std::vector<std::vector<Node>> nodes_;  // [rank][position]
  std::vector<std::int32_t> position_;    // [hop, micro-batch]
  std::vector<Place> sequence_;           // all steps, each after what it needs
  std::vector<Place> path_;

  // For estimate():
  struct Moved {
    const StepType* type = nullptr;
    Time end = 0;
    std::int32_t k = -1;
    std::int32_t second_k = -1;
  };
  std::vector<Moved> moved_;
  std::vector<std::int32_t> next_k_;     // [hop], -1 but for the hops of the change
  std::vector<Time> arrival_in_change_;  // [hop], of the last output within the change
};

}  // namespace counterflow::searching
