#include "evaluate.h"

#include <algorithm>

namespace counterflow::search {

Evaluator::Evaluator(const Problem& problem)
    : problem_(problem),
      forward_end_(static_cast<std::size_t>(problem.num_stages) * problem.num_micro_batches),
      gradient_end_(forward_end_.size()),
      forwards_(problem.num_stages),
      gradients_(problem.num_stages),
      position_(problem.num_ranks),
      free_(problem.num_ranks),
      start_(problem.num_ranks),
      waits_for_(problem.num_ranks),
      forward_at_(forward_end_.size()),
      gradient_at_(forward_end_.size()) {}

Time Evaluator::evaluate(const Order& order) {
  std::fill(forwards_.begin(), forwards_.end(), 0);
  std::fill(gradients_.begin(), gradients_.end(), 0);
  std::fill(position_.begin(), position_.end(), 0);
  std::fill(free_.begin(), free_.end(), 0);
  std::fill(waits_for_.begin(), waits_for_.end(), -1);
  for (int rank = 0; rank < problem_.num_ranks; ++rank) start_[rank].resize(order[rank].size());

  for (int rank = 0; rank < problem_.num_ranks; ++rank) {
    awake_.push_back(rank);
    while (!awake_.empty()) {
      const int next = awake_.back();
      awake_.pop_back();
      run(order, next);
    }
  }
  Time makespan = 0;
  for (int rank = 0; rank < problem_.num_ranks; ++rank) {
    if (position_[rank] < order[rank].size()) return kNever;
    makespan = std::max(makespan, free_[rank]);
  }
  return makespan;
}

// A wait is 2 * stage for the output of a stage, 2 * stage + 1 for its gradient: the next in its order.
Time Evaluator::ready(const Step& step, int& lacks) const {
  const int m = problem_.num_micro_batches;
  Time time = 0;
  if (step.has_forward() && step.stage > 0) {
    const int before = step.stage - 1;
    const int k = forwards_[step.stage];
    if (forwards_[before] <= k) {
      lacks = 2 * before;
      return time;
    }
    time = forward_end_[static_cast<std::size_t>(before) * m + k] + problem_.delay[before];
  }
  if (step.has_gradient()) {
    const int stage = step.gradient_stage();
    const int after = stage + 1;
    const int k = gradients_[stage];
    if (after < problem_.num_stages) {
      if (gradients_[after] <= k) {
        lacks = 2 * after + 1;
        return time;
      }
      time = std::max(time, gradient_end_[static_cast<std::size_t>(after) * m + k] + problem_.delay[stage]);
    } else if (forwards_[stage] <= k) {
      lacks = 2 * stage;  // its own forward, which only a pair can lack: never
      return time;
    }
  }
  return time;
}

bool Evaluator::run(const Order& order, int rank) {
  const std::vector<Step>& steps = order[rank];
  const int m = problem_.num_micro_batches;
  std::size_t& position = position_[rank];
  Time free = free_[rank];
  for (; position < steps.size(); ++position) {
    const Step& step = steps[position];
    int lacks = -1;
    const Time start = std::max(free, ready(step, lacks));
    if (lacks >= 0) {
      waits_for_[rank] = lacks;
      break;
    }
    start_[rank][position] = start;
    free = start + problem_.duration(step);
    if (step.has_forward()) {
      const int stage = step.stage;
      forward_at_[static_cast<std::size_t>(stage) * m + forwards_[stage]] =
          static_cast<std::int32_t>(position);
      forward_end_[static_cast<std::size_t>(stage) * m + forwards_[stage]++] = free;
      if (stage + 1 < problem_.num_stages) {
        const int next = problem_.rank_of_stage[stage + 1];
        if (waits_for_[next] == 2 * stage) {
          waits_for_[next] = -1;
          awake_.push_back(next);
        }
      }
    }
    if (step.has_gradient()) {
      const int stage = step.gradient_stage();
      gradient_at_[static_cast<std::size_t>(stage) * m + gradients_[stage]] =
          static_cast<std::int32_t>(position);
      gradient_end_[static_cast<std::size_t>(stage) * m + gradients_[stage]++] = free;
      if (stage > 0) {
        const int next = problem_.rank_of_stage[stage - 1];
        if (waits_for_[next] == 2 * stage + 1) {
          waits_for_[next] = -1;
          awake_.push_back(next);
        }
      }
    }
  }
  free_[rank] = free;
  return position == steps.size();
}

const std::vector<Evaluator::Place>& Evaluator::critical_path(const Order& order) {
  path_.clear();
  const int m = problem_.num_micro_batches;
  int rank = 0;
  for (int r = 1; r < problem_.num_ranks; ++r) {
    if (free_[r] > free_[rank]) rank = r;
  }
  // Which micro-batch a step is of follows from how many of its kind are behind it.
  std::fill(forwards_.begin(), forwards_.end(), m);
  std::fill(gradients_.begin(), gradients_.end(), m);
  std::vector<std::size_t>& seen = position_;  // steps at and after this position are counted back already
  auto position = static_cast<std::int32_t>(order[rank].size()) - 1;
  while (position >= 0) {
    path_.push_back({rank, position});
    const Step& step = order[rank][position];
    for (; seen[rank] > static_cast<std::size_t>(position); --seen[rank]) {
      const Step& passed = order[rank][seen[rank] - 1];
      if (passed.has_forward()) --forwards_[passed.stage];
      if (passed.has_gradient()) --gradients_[passed.gradient_stage()];
    }
    const Time start = start_[rank][position];
    if (start == 0) break;
    if (position > 0 && start_[rank][position - 1] + problem_.duration(order[rank][position - 1]) == start) {
      --position;
      continue;
    }
    const std::size_t k = step.has_forward() ? forwards_[step.stage] : 0;
    const std::size_t output = static_cast<std::size_t>(step.stage - 1) * m + k;
    if (step.has_forward() && step.stage > 0 &&
        forward_end_[output] + problem_.delay[step.stage - 1] == start) {
      rank = problem_.rank_of_stage[step.stage - 1];
      position = forward_at_[output];
    } else {
      const int stage = step.gradient_stage();
      const std::size_t gradient = static_cast<std::size_t>(stage + 1) * m + gradients_[stage];
      rank = problem_.rank_of_stage[stage + 1];
      position = gradient_at_[gradient];
    }
  }
  return path_;
}

}  // namespace counterflow::search
