// The search on one placement: its best schedule so far, and the chains that go on improving it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "anneal.h"
#include "family.h"

namespace counterflow::searching {

class FamilySearch {
 public:
  /// Takes the known schedules and constructs others. `stop` ends that early, but not before there is one
  /// where there can be one.
  FamilySearch(const Family& family, std::uint64_t seed, const std::stop_token& stop);

  const Family& family() const { return family_; }
  bool feasible() const { return best_.has_value(); }
  Fraction makespan() const { return {best_->makespan, family_.parts}; }
  Fraction lower_bound() const { return {lower_bound_, family_.parts}; }
  bool optimal() const { return best_->makespan <= lower_bound_; }

  /// A round: run_chain() for each chain, in any threads, then end_round() if none was stopped.
  static constexpr int kChains = 4;
  bool run_chain(int chain, const std::stop_token& stop);
  void end_round();

  std::int64_t num_evaluations() const { return num_evaluations_; }

  Schedule schedule() const;
  SearchFamily report() const;

 private:
  struct Best {
    Schedule schedule;
    Time makespan = 0;
  };

  void take_known(const std::stop_token& stop);
  void take_constructed(std::uint64_t seed, const std::stop_token& stop);
  void make_chains(std::uint64_t seed);
  bool offer(const Schedule& schedule);
  void add_start(Order order);
  void reserve(int rank, std::int64_t bytes);

  Family family_;
  std::vector<std::int64_t> reserved_bytes_;  // [rank]
  std::unique_ptr<Problem> problem_;
  Time lower_bound_ = 0;
  std::optional<Best> best_;
  std::string best_known_;
  Time best_known_makespan_ = 0;
  std::vector<Solution> starts_;  // the best first
  std::vector<std::unique_ptr<Chain>> chains_;
  std::vector<double> taken_;  // [chain]: the score that was last looked at
  std::int64_t changes_a_round_ = 0;
  int round_ = 0;
  std::int64_t num_evaluations_ = 0;
};

}  // namespace counterflow::searching
