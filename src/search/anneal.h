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
  /// The problem must outlive the chain. `heat` is what it starts a tooth at, in mean forwards.
  Chain(const Problem& problem, Solution start, double heat, std::uint64_t seed);

  /// Tries so many changes; a tooth is `tooth` changes long, however many calls it takes. Returns false where
  /// it was stopped before the end.
  bool run(std::int64_t changes, std::int64_t tooth, const std::stop_token& stop);

  /// The next tooth goes on from another solution. `best` stays.
  void go_on_from(const Solution& start);

  /// Whether the next change begins a tooth.
  bool between_teeth() const { return in_tooth_ == 0; }

  const Solution& best() const { return best_; }

  /// Orders timed.
  std::int64_t num_evaluations() const { return num_evaluations_; }

 private:
  void begin_tooth();
  void try_change();
  bool accept(double limit);

  const Problem& problem_;
  Random random_;
  Timing timing_;
  Moves moves_;
  Solution start_;  // of the next tooth
  Solution current_;
  Solution best_;
  double hottest_ = 0;  // temperature
  double temperature_ = 0;
  std::int64_t in_tooth_ = 0;
  std::int64_t num_evaluations_ = 0;
};

/// The solution of an order whose limits hold.
Solution solution_of(const Problem& problem, Order order);

}  // namespace counterflow::searching
