#include "evaluate.h"

#include <numeric>

namespace counterflow::searching {

Evaluator::Evaluator(const Problem& problem)
    : problem_(problem),
      types_(problem.types().data()),
      num_micro_batches_(problem.num_micro_batches()),
      arrival_(static_cast<std::size_t>(problem.num_hops() + 1) * problem.num_micro_batches()),
      count_(problem.num_hops() + 1),
      position_(problem.num_ranks()),
      free_(problem.num_ranks()),
      lacks_(problem.num_ranks()),
      channel_free_(problem.num_channels()) {
  for (int hop = 0; hop < problem.num_hops(); ++hop)
    next_rank_.push_back(problem.rank_of_hop(std::min(hop + 1, problem.num_hops() - 1)));
}

void Evaluator::reset(const Order& order) {
  std::fill(count_.begin(), count_.end(), 0);
  count_[0] = num_micro_batches_;
  std::fill(position_.begin(), position_.end(), 0);
  std::fill(free_.begin(), free_.end(), 0);
  std::fill(lacks_.begin(), lacks_.end(), -2);
  std::fill(channel_free_.begin(), channel_free_.end(), 0);
  awake_.reserve(order.size());
}

Time Evaluator::sum_of_ends() const {
  return std::accumulate(free_.begin(), free_.end(), Time{0});
}

}  // namespace counterflow::searching
