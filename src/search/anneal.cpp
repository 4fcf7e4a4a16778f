#include "anneal.h"

#include <cmath>

namespace counterflow::searching {
namespace {

constexpr double kWeightOfEnds = 0.02;

double score_of(const Problem& problem, const Evaluator& evaluator, Time makespan) {
  return static_cast<double>(makespan) +
         kWeightOfEnds * static_cast<double>(evaluator.sum_of_ends()) / problem.num_ranks();
}

double mean_forward(const Problem& problem) {
  double sum = 0;
  for (int stage = 0; stage < problem.num_stages(); ++stage)
    sum += static_cast<double>(problem.type(problem.forward(stage)).duration);
  return sum / problem.num_stages();
}

}  // namespace

Solution solution_of(const Problem& problem, Evaluator& evaluator, Order order) {
  Solution solution;
  solution.makespan = evaluator.evaluate(order);
  solution.score = score_of(problem, evaluator, solution.makespan);
  solution.order = std::move(order);
  return solution;
}

Chain::Chain(const Problem& problem, Solution start, std::uint64_t seed)
    : problem_(problem),
      random_(seed),
      evaluator_(problem),
      timing_(problem),
      moves_(problem),
      best_(std::move(start)),
      hottest_(0.3 * std::max(1.0, mean_forward(problem))) {
  restart(best_);
}

void Chain::restart(const Solution& start) {
  best_ = start;
  in_tooth_ = 0;
}

void Chain::begin_tooth() {
  current_ = best_;
  timing_.settle(current_.order);
}

bool Chain::run(std::int64_t changes, std::int64_t tooth, const std::stop_token& stop) {
  constexpr std::int64_t kStride = 64;
  for (std::int64_t done = 0; done < changes; ++done, ++in_tooth_) {
    if (in_tooth_ >= tooth) in_tooth_ = 0;
    if (in_tooth_ == 0) begin_tooth();
    if (in_tooth_ % kStride == 0) {
      if (stop.stop_requested()) return false;
      temperature_ = hottest_ * std::pow(0.02, static_cast<double>(in_tooth_) / static_cast<double>(tooth));
    }
    try_change();
  }
  return true;
}

double Chain::score(Time makespan) const {
  return score_of(problem_, evaluator_, makespan);
}

void Chain::try_change() {
  constexpr int kCriticalPercent = 95;
  int rank = 0;
  std::size_t position = 0;
  const auto& path = timing_.critical_path();
  if (random_.below(100) < kCriticalPercent) {
    const Timing::Place& place = path[random_.below(static_cast<int>(path.size()))];
    rank = place.rank;
    position = place.position;
  } else {
    rank = random_.below(problem_.num_ranks());
    if (current_.order[rank].empty()) return;
    position = random_.below(static_cast<int>(current_.order[rank].size()));
  }
  Change* change = moves_.propose(current_.order, rank, position, random_);
  if (change == nullptr) return;
  const double limit = current_.score - temperature_ * std::log(1.0 - random_.uniform());
  const double ends = current_.score - static_cast<double>(current_.makespan);
  if (static_cast<double>(timing_.estimate(current_.order, *change)) + ends > limit + temperature_ * 0.1)
    return;
  apply(current_.order, *change);
  if (!fits(problem_, rank, current_.order[rank]) || !accept(*change, limit)) apply(current_.order, *change);
}

bool Chain::accept(Change&, double limit) {
  ++num_evaluations_;
  const Time makespan = evaluator_.evaluate(current_.order);
  if (makespan >= kNever) return false;
  const double now = score(makespan);
  if (now > limit) return false;
  current_.makespan = makespan;
  current_.score = now;
  timing_.settle(current_.order);
  if (now < best_.score) best_ = current_;
  return true;
}

}  // namespace counterflow::searching
