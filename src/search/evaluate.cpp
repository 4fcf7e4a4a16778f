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
      waits_for_(problem.num_ranks) {}

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

}  // namespace counterflow::search
