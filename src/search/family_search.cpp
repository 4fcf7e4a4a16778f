#include "family_search.h"

#include <algorithm>

#include "bounds.h"
#include "construct.h"
#include "counterflow/error.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"
#include "starts.h"

namespace counterflow::searching {
namespace {

std::int64_t num_steps(const Problem& problem) {
  return 3 * static_cast<std::int64_t>(problem.num_stages()) * problem.num_micro_batches();
}

std::int64_t num_pairs(const Schedule& schedule) {
  std::int64_t pairs = 0;
  for (const auto& actions : schedule.actions)
    pairs += std::count_if(actions.begin(), actions.end(), [](const Action& a) { return a.is_overlap(); });
  return pairs;
}

}  // namespace

FamilySearch::FamilySearch(const Family& family, std::uint64_t seed, const std::stop_token& stop)
    : family_(family), reserved_bytes_(family.placement.num_ranks(), 0) {
  problem_ = std::make_unique<Problem>(family_.problem(reserved_bytes_));
  lower_bound_ = bounds_of(family_.problem(reserved_bytes_, true)).best();
  // A change takes about as long as 100 steps, and a few times less often all steps of the order: a round of
  // a chain is some hundredths of a second.
  changes_a_round_ = std::max<std::int64_t>(200, 20'000'000 / (150 + num_steps(*problem_)));
  if (!why_infeasible(*problem_).empty()) return;
  take_known(stop);
  take_constructed(seed, stop);
  make_chains(seed);
}

// Where a schedule is the best so far and fits, it is kept.
bool FamilySearch::offer(const Schedule& schedule) {
  const Simulation run = simulate(schedule, family_.costs);
  if (family_.max_activations && run.peak_activations() > *family_.max_activations) return false;
  if (family_.costs.memory_bytes > 0) {
    for (std::size_t rank = 0; rank < run.ranks.size(); ++rank) {
      const RankResult& result = run.ranks[rank];
      const std::int64_t total = result.static_bytes + result.peak_activation_bytes + result.receive_bytes;
      if (total > family_.costs.memory_bytes) return false;
    }
  }
  if (best_ && best_->makespan <= run.makespan) return true;
  best_ = Best{schedule, run.makespan};
  return true;
}

void FamilySearch::add_start(Order order) {
  if (!fits(*problem_, order)) return;
  Evaluator evaluator(*problem_);
  Solution solution = solution_of(*problem_, evaluator, std::move(order));
  if (solution.makespan >= kNever) return;
  const auto same = [&](const Solution& other) { return other.order == solution.order; };
  if (std::any_of(starts_.begin(), starts_.end(), same)) return;
  const auto place =
      std::upper_bound(starts_.begin(), starts_.end(), solution.score,
                       [](double score, const Solution& other) { return score < other.score; });
  starts_.insert(place, std::move(solution));
  if (starts_.size() > kChains) starts_.pop_back();
}

void FamilySearch::take_known(const std::stop_token& stop) {
  for (Known& known : known_schedules(family_)) {
    if (best_ && stop.stop_requested()) return;
    const Time before = best_ ? best_->makespan : kNever;
    known.schedule.name = known.name;
    if (!offer(known.schedule)) continue;
    if (best_->makespan < before) {
      best_known_ = known.name;
      best_known_makespan_ = best_->makespan;
    }
    if (std::optional<Order> order = family_.order(*problem_, known.schedule)) add_start(std::move(*order));
  }
}

void FamilySearch::take_constructed(std::uint64_t seed, const std::stop_token& stop) {
  const std::int64_t tries = std::clamp<std::int64_t>(4'000'000 / num_steps(*problem_), 8, 400);
  Random random(seed);
  for (std::int64_t i = 0; i < tries; ++i) {
    if (best_ && stop.stop_requested()) return;
    const Preferences preferences = i == 0 ? Preferences{} : random_preferences(random);
    add_start(construct(*problem_, preferences, random));
    if (i == 0 && !best_ && !starts_.empty())
      offer(family_.schedule(*problem_, starts_.front().order, "search"));
  }
}

void FamilySearch::make_chains(std::uint64_t seed) {
  if (starts_.empty()) return;
  for (int chain = 0; chain < kChains; ++chain) {
    const Solution& start = starts_[chain % starts_.size()];
    chains_.push_back(std::make_unique<Chain>(*problem_, start, seed * 1000 + chain));
    taken_.push_back(start.score);
  }
  offer(family_.schedule(*problem_, starts_.front().order, "search"));
}

bool FamilySearch::run_chain(int chain, const std::stop_token& stop) {
  // Teeth grow, those of later chains faster: how long a tooth should be is not known, nor how much time
  // there is.
  return chains_[chain]->run(changes_a_round_, changes_a_round_, stop);
}

void FamilySearch::end_round() {
  ++round_;
  num_evaluations_ = 0;
  std::size_t best = 0;
  for (std::size_t chain = 0; chain < chains_.size(); ++chain) {
    num_evaluations_ += chains_[chain]->num_evaluations();
    if (chains_[chain]->best().score < chains_[best]->best().score) best = chain;
  }
  const Solution& solution = chains_[best]->best();
  if (solution.makespan < best_->makespan) offer(family_.schedule(*problem_, solution.order, "search"));
}

Schedule FamilySearch::schedule() const {
  return best_->schedule;
}

SearchFamily FamilySearch::report() const {
  SearchFamily report;
  report.placement = family_.kind;
  report.stages_per_rank = family_.stages_per_rank;
  report.copies = family_.copies;
  report.feasible = feasible();
  report.lower_bound = lower_bound();
  if (!feasible()) {
    report.why_not = why_infeasible(*problem_);
    return report;
  }
  report.makespan = makespan();
  report.peak_activations = {simulate(best_->schedule, family_.costs).peak_activations(), family_.parts};
  report.num_pairs = num_pairs(best_->schedule);
  report.best_known = best_known_;
  if (!best_known_.empty()) report.best_known_makespan = {best_known_makespan_, family_.parts};
  return report;
}

}  // namespace counterflow::searching
