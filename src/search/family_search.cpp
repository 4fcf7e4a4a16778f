#include "family_search.h"

#include <algorithm>
#include <numeric>

#include "bounds.h"
#include "construct.h"
#include "counterflow/error.h"
#include "counterflow/simulate.h"
#include "split.h"
#include "starts.h"
#include "stretch.h"
#include "windows.h"

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

FamilySearch::FamilySearch(const Family& family, std::uint64_t seed, const std::stop_token& stop,
                           bool tries_splits)
    : family_(family), seed_(seed), reserved_(family.placement.num_ranks(), 0) {
  if (!family_.costs.layers.empty()) choose_split(family_, stop);
  tries_splits_ = tries_splits && !family_.split.empty();
  set_problem();
  // A change takes about as long as 100 steps, and a few times less often all steps of the order: a round of
  // a chain is some hundredths of a second.
  changes_a_round_ = std::max<std::int64_t>(200, 20'000'000 / (150 + num_steps(*problem_)));
  if (!why_infeasible(*problem_).empty()) return;
  take_known(stop);
  take_constructed(stop);
  constexpr int kMostTries = 4;
  for (int tries = 0; tries < kMostTries && starts_.empty() && reserve_more(); ++tries)
    take_constructed(stop);
  make_smaller(stop);
  make_chains();
  if (tries_splits_ && !stop.stop_requested()) make_rival();
}

Time FamilySearch::bound_with(const Family& family) const {
  const std::vector<std::int64_t> none_reserved(reserved_.size(), 0);
  const Problem fastest = family.problem(none_reserved, true);
  return std::max(bounds_of(fastest).best(), windows_bound(fastest));
}

void FamilySearch::set_problem() {
  lower_bound_ = bound_with(family_);
  problem_ = std::make_unique<Problem>(family_.problem(reserved_));
}

// Where a schedule is the best so far and fits, it is kept.
bool FamilySearch::offer(const Schedule& schedule) {
  const Simulation run = simulate(schedule, family_.costs);
  if (!family_.allows(run)) {
    reject(run);
    return false;
  }
  if (!best_ || run.makespan < best_->makespan) best_ = Best{schedule, run.makespan};
  return true;
}

// Receive buffers are known only when an order is simulated: of those for which they left no room the one
// that needs least shows how much to keep free.
void FamilySearch::reject(const Simulation& run) {
  std::vector<std::int64_t> needed;
  for (const RankResult& rank : run.ranks) needed.push_back(rank.receive_bytes);
  if (family_.folds()) {
    for (std::size_t rank = 0; rank < needed.size(); ++rank)
      needed[rank] = std::max(needed[rank], needed[needed.size() - 1 - rank]);
  }
  const auto total = [](const std::vector<std::int64_t>& bytes) {
    return std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0});
  };
  if (rejected_.empty() || total(needed) < total(rejected_)) rejected_ = std::move(needed);
}

// False where nothing was rejected, or nothing would fit with so much kept free.
bool FamilySearch::reserve_more() {
  if (rejected_.empty()) return false;
  std::vector<std::int64_t> reserved = reserved_;
  for (std::size_t rank = 0; rank < reserved.size(); ++rank)
    reserved[rank] = std::max(reserved[rank], rejected_[rank]);
  rejected_.clear();
  auto problem = std::make_unique<Problem>(family_.problem(reserved));
  if (reserved == reserved_ || !why_infeasible(*problem).empty()) return false;
  for (const auto& chain : chains_) evaluations_of_old_chains_ += chain->num_evaluations();
  chains_.clear();
  reserved_ = std::move(reserved);
  problem_ = std::move(problem);
  std::erase_if(starts_, [&](const Solution& start) { return !fits(*problem_, start.order); });
  if (!solution_.order.empty() && !fits(*problem_, solution_.order)) solution_ = {};
  return true;
}

bool FamilySearch::offer(const Solution& solution) {
  const bool is_better = !best_ || solution.makespan < best_->makespan;
  if (is_better && !offer(family_.schedule(*problem_, solution.order,
                                           "search-" + std::string(placement_kind_name(family_.kind)))))
    return false;
  if (solution_.order.empty() || solution.score < solution_.score) solution_ = solution;
  return true;
}

void FamilySearch::add_start(Order order) {
  if (!fits(*problem_, order)) return;
  Solution solution = solution_of(*problem_, std::move(order));
  if (solution.makespan >= kNever || !offer(solution)) return;
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
    const Simulation run = simulate(known.schedule, family_.costs);
    if (!family_.allows(run)) continue;
    if (best_known_.empty() || run.makespan < best_known_makespan_) {
      best_known_ = known.name;
      best_known_makespan_ = run.makespan;
    }
    known.schedule.name = known.name;
    offer(known.schedule);
    if (std::optional<Order> order = family_.order(*problem_, known.schedule)) add_start(std::move(*order));
  }
}

void FamilySearch::take_constructed(const std::stop_token& stop) {
  const std::int64_t tries = std::clamp<std::int64_t>(4'000'000 / num_steps(*problem_), 8, 400);
  Random random(seed_);
  for (std::int64_t i = 0; i < tries; ++i) {
    if (best_ && stop.stop_requested()) return;
    const Preferences preferences = i == 0 ? Preferences{} : random_preferences(random);
    add_start(construct(*problem_, preferences, random));
  }
}

// Filling and emptying the pipeline takes about two micro-batches a rank.
void FamilySearch::make_smaller(const std::stop_token& stop) {
  constexpr int kPeriods = 6;  // stretches of one, two or three micro-batches can all be repeated
  const int copies = family_.folds() ? 2 : 1;
  const int m = family_.placement.num_micro_batches() / copies;
  const int enough = 2 * family_.placement.num_ranks() / copies + 2;
  const int fewer = enough + (m - enough) % kPeriods;
  if (m < enough + kPeriods || stop.stop_requested()) return;
  smaller_ = std::unique_ptr<FamilySearch>(
      new FamilySearch(family_.with_micro_batches(fewer * copies), seed_ + 1, stop, false));
  if (!smaller_->feasible()) smaller_.reset();
}

void FamilySearch::make_chains() {
  if (smaller_) take_from_smaller();
  if (starts_.empty()) return;
  for (int chain = 0; chain < kChains; ++chain) {
    const double heat = chain % 2 == 0 ? 0.3 : 0.6;
    chains_.push_back(
        std::make_unique<Chain>(*problem_, starts_[chain % starts_.size()], heat, seed_ * 1000 + chain));
  }
}

bool FamilySearch::is_turn_of_smaller() const {
  constexpr int kPatience = 12;
  return smaller_ && round_ % 2 == 0 && !smaller_->optimal() && smaller_rounds_without_gain_ < kPatience;
}

int FamilySearch::num_jobs() const {
  if (is_turn_of_rival()) return rival_->num_jobs();
  return is_turn_of_smaller() ? smaller_->num_jobs()
                              : static_cast<int>(chains_.size()) + (wants_exact() ? 1 : 0);
}

bool FamilySearch::run_job(int job, const std::stop_token& stop) {
  if (is_turn_of_rival()) return rival_->run_job(job, stop);
  if (is_turn_of_smaller()) return smaller_->run_job(job, stop);
  if (job == static_cast<int>(chains_.size())) return run_exact(stop);
  // Teeth of 1, 2, 4 and 8 rounds: how long they should be depends on the instance.
  return chains_[job]->run(changes_a_round_, changes_a_round_ << job, stop);
}

void FamilySearch::end_round() {
  if (is_turn_of_rival()) {
    end_round_of_rival();
  } else if (is_turn_of_smaller()) {
    const std::int64_t before = smaller_->num_evaluations();
    smaller_->end_round();
    num_evaluations_ += smaller_->num_evaluations() - before;
    take_from_smaller();
  } else {
    end_round_of_chains();
    if (wants_exact()) take_exact();
    if (tries_splits_) improve_split();
  }
  ++round_;
}

void FamilySearch::end_round_of_chains() {
  num_evaluations_ = evaluations_of_old_chains_ + (smaller_ ? smaller_->num_evaluations() : 0);
  for (const auto& chain : chains_) {
    num_evaluations_ += chain->num_evaluations();
    offer(chain->best());
  }
  if (reserve_more()) {
    if (starts_.empty()) take_constructed({});
    make_chains();
    return;
  }
  for (const auto& chain : chains_) {
    if (chain->between_teeth() && solution_.score < chain->best().score) chain->go_on_from(solution_);
  }
}

void FamilySearch::take_from_smaller() {
  ++smaller_rounds_without_gain_;
  const Time makespan = smaller_->solution_.makespan;
  if (smaller_->solution_.order.empty() || (taken_from_smaller_ != 0 && makespan >= taken_from_smaller_))
    return;
  smaller_rounds_without_gain_ = 0;
  taken_from_smaller_ = makespan;
  std::optional<Order> order = stretch(*smaller_->problem_, smaller_->solution_.order, *problem_);
  if (!order) return;
  const Solution solution = solution_of(*problem_, *order);
  add_start(std::move(*order));
  if (!chains_.empty() && fits(*problem_, solution.order))
    chains_[round_ / 2 % kChains]->go_on_from(solution);
}

bool FamilySearch::wants_exact() const {
  constexpr std::int64_t kMostSteps = 360;
  const bool is_power = (round_ & (round_ + 1)) == 0;  // rounds 0, 1, 3, 7 …
  return is_power && !family_.folds() && !optimal() && num_steps(*problem_) <= kMostSteps &&
         exact_applies(*problem_);
}

// Deadlines from the lower bound on: each that cannot be held raises it.
bool FamilySearch::run_exact(const std::stop_token& stop) {
  const std::int64_t most_states = std::int64_t{20'000} * (round_ + 1);
  std::int64_t states = 0;
  for (exact_deadline_ = lower_bound_; exact_deadline_ < best_->makespan; ++exact_deadline_) {
    exact_ = find_order(*problem_, exact_deadline_, most_states - states, stop);
    states += exact_.num_states;
    if (exact_.answer != Exact::Answer::kNone) break;
  }
  return !stop.stop_requested();
}

void FamilySearch::take_exact() {
  lower_bound_ = std::max(lower_bound_, exact_deadline_);
  if (exact_.answer == Exact::Answer::kFound && !exact_.order.empty())
    offer(solution_of(*problem_, exact_.order));
}

bool FamilySearch::may_find_better_split() const {
  constexpr int kPatience = 16;
  return tries_splits_ && best_->makespan > family_.least_of_any_split &&
         (rival_ || rounds_without_better_split_ < kPatience);
}

// The best order stays as it is, and layers move from stage to stage: what the search then finds for that
// split may suit yet another.
void FamilySearch::improve_split() {
  ++rounds_without_better_split_;
  if (solution_.order.empty()) return;
  Random random(seed_ + static_cast<std::uint64_t>(round_) * 104'729);
  const std::int64_t tries = std::clamp<std::int64_t>(2'000'000 / num_steps(*problem_), 4, 300);
  Family best = family_;
  Solution least = solution_;
  for (std::int64_t i = 0; i < tries; ++i) {
    Family family = best;
    family.split = changed(best.split, random);
    if (family.split == best.split) continue;
    family.costs = stages_of(family.model, family.placement, family.split);
    const Problem problem = family.problem(reserved_);
    if (!fits(problem, solution_.order)) continue;
    Solution solution = solution_of(problem, solution_.order);
    if (solution.score >= least.score) continue;
    least = std::move(solution);
    best = std::move(family);
  }
  if (best.split == family_.split || least.makespan > best_->makespan) return;
  const Schedule schedule =
      best.schedule(*problem_, least.order, "search-" + std::string(placement_kind_name(family_.kind)));
  // Its receive buffers may need more room.
  if (best.allows(simulate(schedule, best.costs))) take_split(std::move(best), schedule, std::move(least));
}

void FamilySearch::take_split(Family family, const Schedule& schedule, Solution solution) {
  const Time makespan = simulate(schedule, family.costs).makespan;
  if (makespan < best_->makespan) rounds_without_better_split_ = 0;
  best_ = Best{schedule, makespan};
  family_ = std::move(family);
  for (const auto& chain : chains_) evaluations_of_old_chains_ += chain->num_evaluations();
  chains_.clear();
  set_problem();
  starts_.clear();
  solution_ = {};
  if (!solution.order.empty() && fits(*problem_, solution.order)) {
    solution_ = std::move(solution);
    starts_.push_back(solution_);
  }
  best_known_.clear();
  take_known({});
  make_chains();
}

bool FamilySearch::is_turn_of_rival() const {
  return rival_ && round_ % 2 == 1;
}

void FamilySearch::end_round_of_rival() {
  constexpr int kRounds = 6;
  const std::int64_t before = rival_->num_evaluations();
  rival_->end_round();
  evaluations_of_old_chains_ += rival_->num_evaluations() - before;
  num_evaluations_ += rival_->num_evaluations() - before;
  ++rounds_without_better_split_;
  ++rounds_of_rival_;
  const bool wins = rival_->best_->makespan < best_->makespan;
  if (wins) take_split(rival_->family_, rival_->best_->schedule, rival_->solution_);
  if (wins || rival_->optimal() || rounds_of_rival_ >= kRounds) make_rival();
}

// One that differs in a few moves, was not tried, and may be better for all that its bound says.
void FamilySearch::make_rival() {
  constexpr std::int64_t kMostSteps = 50'000;
  constexpr int kDraws = 60;
  rival_.reset();
  rounds_of_rival_ = 0;
  if (!best_ || num_steps(*problem_) > kMostSteps) return;
  Random random(seed_ + static_cast<std::uint64_t>(round_) * 15'485'863 + 1);
  for (int draw = 0; draw < kDraws; ++draw) {
    Family family = family_;
    for (int moves = 1 + random.below(3); moves > 0; --moves) family.split = changed(family.split, random);
    if (family.split == family_.split ||
        std::find(tried_splits_.begin(), tried_splits_.end(), family.split) != tried_splits_.end())
      continue;
    tried_splits_.push_back(family.split);
    family.costs = stages_of(family.model, family.placement, family.split);
    if (bound_with(family) >= best_->makespan) continue;
    rival_.reset(new FamilySearch(family, seed_ + tried_splits_.size(), {}, false));
    if (rival_->feasible() && rival_->num_jobs() > 0) return;
    rival_.reset();
  }
}

Fraction FamilySearch::lower_bound() const {
  if (family_.split.empty()) return {lower_bound_, family_.parts};
  return {std::min(family_.least_of_any_split, lower_bound_), family_.parts};
}

SearchFamily FamilySearch::report() const {
  SearchFamily report;
  report.placement = family_.kind;
  report.stages_per_rank = family_.stages_per_rank;
  report.copies = family_.copies;
  report.layers = family_.split;
  report.feasible = feasible();
  report.lower_bound = lower_bound();
  if (!feasible()) {
    report.why_not = why_infeasible(*problem_);
    return report;
  }
  report.makespan = makespan();
  report.peak_activations = {simulate(best_->schedule, family_.costs).peak_activations(),
                             family_.activation_parts};
  report.num_pairs = num_pairs(best_->schedule);
  report.best_known = best_known_;
  if (!best_known_.empty()) report.best_known_makespan = {best_known_makespan_, family_.parts};
  return report;
}

}  // namespace counterflow::searching
