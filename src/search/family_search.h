// The search on one placement: its best schedule so far, and what goes on improving it and its bound.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "anneal.h"
#include "exact.h"
#include "family.h"

namespace counterflow::searching {

class FamilySearch {
 public:
  /// Takes the known schedules and constructs others. `stop` ends that early, but not before there is one
  /// where there can be one.
  FamilySearch(const Family& family, std::uint64_t seed, const std::stop_token& stop)
      : FamilySearch(family, seed, stop, true) {}

  const Family& family() const { return family_; }
  bool feasible() const { return best_.has_value(); }
  Fraction makespan() const { return {best_->makespan, family_.parts}; }

  /// Of the placement; where there are layers, whatever their split.
  Fraction lower_bound() const;

  /// For its split of the layers.
  bool optimal() const { return best_->makespan <= lower_bound_; }

  /// Whether a round could find anything better.
  bool can_improve() const { return feasible() && num_jobs() > 0 && (!optimal() || may_find_better_split()); }

  /// A round: run_job() of 0 … num_jobs() - 1, in any threads, then end_round() if none was stopped.
  int num_jobs() const;
  bool run_job(int job, const std::stop_token& stop);
  void end_round();

  /// Orders timed in finished rounds.
  std::int64_t num_evaluations() const { return num_evaluations_; }

  const Schedule& schedule() const { return best_->schedule; }
  SearchFamily report() const;

 private:
  static constexpr int kChains = 4;

  struct Best {
    Schedule schedule;
    Time makespan = 0;
  };

  void take_known(const std::stop_token& stop);
  void take_constructed(const std::stop_token& stop);
  void make_chains();
  void make_smaller(const std::stop_token& stop);
  bool offer(const Schedule& schedule);
  bool offer(const Solution& solution);
  void add_start(Order order);
  void reject(const Simulation& run);
  bool reserve_more();

  FamilySearch(const Family& family, std::uint64_t seed, const std::stop_token& stop, bool tries_splits);
  void set_problem();

  // Of layers into stages:
  bool may_find_better_split() const;
  void improve_split();
  void take_split(Family family, const Schedule& schedule, Solution solution);
  bool is_turn_of_rival() const;
  void end_round_of_rival();
  void make_rival();
  Time bound_with(const Family& family) const;

  bool is_turn_of_smaller() const;
  void take_from_smaller();
  bool wants_exact() const;
  bool run_exact(const std::stop_token& stop);
  void take_exact();
  void end_round_of_chains();

  Family family_;
  std::uint64_t seed_;
  std::unique_ptr<Problem> problem_;
  std::vector<std::int64_t> reserved_;  // [rank] bytes kept free for receive buffers
  std::vector<std::int64_t> rejected_;  // what an order needed for them that then was too large, or none
  Time lower_bound_ = 0;
  std::optional<Best> best_;
  std::string best_known_;
  Time best_known_makespan_ = 0;
  Solution solution_;             // the best order, which may be no better than best_
  std::vector<Solution> starts_;  // the best first
  std::vector<std::unique_ptr<Chain>> chains_;
  std::int64_t changes_a_round_ = 0;
  int round_ = 0;
  std::int64_t num_evaluations_ = 0;
  std::int64_t evaluations_of_old_chains_ = 0;

  // The same with fewer micro-batches, whose middle is then repeated: what it costs less to try.
  std::unique_ptr<FamilySearch> smaller_;
  Time taken_from_smaller_ = 0;  // its makespan when its order was last stretched
  int smaller_rounds_without_gain_ = 0;

  // Another split of the layers, searched for a few rounds.
  bool tries_splits_ = false;
  std::unique_ptr<FamilySearch> rival_;
  int rounds_of_rival_ = 0;
  int rounds_without_better_split_ = 0;
  std::vector<Split> tried_splits_;

  Exact exact_;
  Time exact_deadline_ = 0;
};

}  // namespace counterflow::searching
