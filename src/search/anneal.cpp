#include "anneal.h"

#include <cmath>

namespace counterflow::searching {
namespace {

constexpr double kWeightOfEnds = 0.02;

double score_of(const Problem& problem, Time makespan, Time sum_of_ends) {
  return static_cast<double>(makespan) +
         kWeightOfEnds * static_cast<double>(sum_of_ends) / problem.num_ranks();
}

double mean_forward(const Problem& problem) {
  double sum = 0;
  for (int stage = 0; stage < problem.num_stages(); ++stage)
    sum += static_cast<double>(problem.type(problem.forward(stage)).duration);
  return sum / problem.num_stages();
}

}  // namespace

Solution solution_of(const Problem& problem, Order order) {
  Evaluator evaluator(problem);
  Solution solution;
  solution.makespan = evaluator.evaluate(order);
  solution.score = score_of(problem, solution.makespan, evaluator.sum_of_ends());
  solution.order = std::move(order);
  return solution;
}

Chain::Chain(const Problem& problem, Solution start, double heat, std::uint64_t seed)
    : problem_(problem),
      random_(seed),
      timing_(problem),
      moves_(problem),
      start_(start),
      best_(std::move(start)),
      hottest_(heat * std::max(1.0, mean_forward(problem))) {}

void Chain::go_on_from(const Solution& start) {
  start_ = start;
  if (start.score < best_.score) best_ = start;
  in_tooth_ = 0;
}

void Chain::begin_tooth() {
  current_ = start_;
  timing_.settle(current_.order);
}

bool Chain::run(std::int64_t changes, std::int64_t tooth, const std::stop_token& stop) {
  constexpr std::int64_t kStride = 64;
  constexpr double kColdest = 0.02;  // of the hottest
  for (std::int64_t done = 0; done < changes; ++done) {
    if (in_tooth_ == 0) begin_tooth();
    if (in_tooth_ % kStride == 0) {
      if (stop.stop_requested()) return false;
      const double through = static_cast<double>(in_tooth_) / static_cast<double>(tooth);
      temperature_ = hottest_ * std::pow(kColdest, through);
    }
    try_change();
    if (++in_tooth_ < tooth) continue;
    in_tooth_ = 0;
    start_ = best_;
  }
  return true;
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
  const Time estimate = timing_.estimate(current_.order, *change);
  if (static_cast<double>(estimate) + ends > limit + temperature_ * 0.1) return;
  apply(current_.order, *change);
  if (!fits(problem_, rank, current_.order[rank])) {
    apply(current_.order, *change);
  } else if (!accept(limit)) {
    apply(current_.order, *change);
    timing_.settle(current_.order);
  }
}

// The estimate is nearly always right, so that the times are taken at once.
bool Chain::accept(double limit) {
  ++num_evaluations_;
  const Time makespan = timing_.settle(current_.order);
  if (makespan >= kNever) return false;
  const double score = score_of(problem_, makespan, timing_.sum_of_ends());
  if (score > limit) return false;
  current_.makespan = makespan;
  current_.score = score;
  if (score < best_.score) best_ = current_;
  return true;
}

}  // namespace counterflow::searching
