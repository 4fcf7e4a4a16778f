// One chain of simulated annealing over the ranks' lists, from a start whose limits hold.
#pragma once

#include <cstdint>
#include <stop_token>

#include "moves.h"
#include "random.h"
#include "timing.h"

namespace counterflow::searching {

/// An order and what it takes.
struct Solution {
  Order order;
  Time makespan = kNever;
  double score = 0;  ///< makespan, and a little for ranks that end late: what a chain goes down
};

/// Runs in teeth: from a temperature at which the times of a pass matter little down to one at which every
/// unit does, then again from the best. Used by one thread.
class Chain {
 public:
  /// The problem must outlive the chain.
  Chain(const Problem& problem, Solution start, std::uint64_t seed);

  /// Goes on from another solution, as from a start.
  void restart(const Solution& start);

  /// Tries so many changes; a tooth is `tooth` changes long, however many calls it takes. Returns false where
  /// it was stopped before the end.
  bool run(std::int64_t changes, std::int64_t tooth, const std::stop_token& stop);

  const Solution& best() const { return best_; }
  std::int64_t num_evaluations() const { return num_evaluations_; }

 private:
  void begin_tooth();
  void try_change();
  bool accept(Change& change, double limit);
  double score(Time makespan) const;

  const Problem& problem_;
  Random random_;
  Evaluator evaluator_;
  Timing timing_;
  Moves moves_;
  Solution current_;
  Solution best_;
  double hottest_ = 0;  // temperature
  double temperature_ = 0;
  std::int64_t in_tooth_ = 0;
  std::int64_t num_evaluations_ = 0;
};

/// The solution of an order whose limits hold.
Solution solution_of(const Problem& problem, Evaluator& evaluator, Order order);

}  // namespace counterflow::searching
