#include "problem.h"

#include <algorithm>
#include <deque>

namespace counterflow::searching {

using Kind = StepType::Kind;

Problem::Problem(int num_ranks, int num_micro_batches, std::vector<std::int32_t> rank_of_stage,
                 const CostModel& costs, std::vector<Transfer> transfers, std::vector<Limits> limits,
                 bool folded)
    : num_ranks_(num_ranks),
      num_micro_batches_(num_micro_batches),
      folded_(folded),
      rank_of_stage_(std::move(rank_of_stage)),
      stages_on_(num_ranks),
      transfers_(std::move(transfers)),
      limits_(std::move(limits)) {
  for (int s = 0; s < num_stages(); ++s) {
    auto& stages = stages_on_[rank_of_stage_[s]];
    local_of_stage_.push_back(static_cast<std::int32_t>(stages.size()));
    stages.push_back(s);
  }
  for (int s = 0; s < num_stages(); ++s) add_stage(s, costs);
  for (int rank = 0; rank < num_ranks; ++rank) add_pairs(rank, costs);
  for (const Transfer& transfer : transfers_) num_channels_ = std::max(num_channels_, transfer.channel + 1);
  for (const Limits& limit : limits_) limits_bytes_ |= limit.bytes < Limits{}.bytes;
}

void Problem::add_stage(int stage, const CostModel& costs) {
  const StageCost& cost = costs.stage(stage);
  const std::int32_t local = local_of_stage_[stage];
  const std::int32_t gradient_hop = num_hops() - 1 - stage;
  const std::int64_t held = cost.activation_bytes;
  const std::int64_t kept = cost.weight_store_bytes;
  types_.push_back({Kind::kForward, stage, -1, local, -1, cost.f, 1, 1, held, held});
  types_.push_back({Kind::kBackward, gradient_hop, -1, -1, local, cost.i + cost.w, 0, -1, 0, -held});
  types_.push_back({Kind::kInputGradient, gradient_hop, -1, -1, local, cost.i, 0, 0,
                    std::max<std::int64_t>(0, kept - held), kept - held});
  types_.push_back({Kind::kWeightGradient, -1, -1, -1, local, cost.w, 0, -1, 0, -kept});
}

void Problem::add_pairs(int rank, const CostModel& costs) {
  first_pair_.push_back(types_.size());
  for (const std::int32_t f : stages_on_[rank]) {
    for (const std::int32_t b : stages_on_[rank]) {
      const StepType& forward_type = types_[forward(f)];
      const StepType& backward_type = types_[backward(b)];
      const Time duration =
          costs.duration(Action::overlap(counterflow::forward(f, 0), counterflow::backward(b, 0)));
      any_pair_pays_ |= duration < forward_type.duration + backward_type.duration;
      types_.push_back({Kind::kPair, f, num_hops() - 1 - b, local_of_stage_[f], local_of_stage_[b], duration,
                        1, 0, forward_type.rise_bytes,
                        forward_type.change_bytes + backward_type.change_bytes});
    }
  }
}

int Problem::stage(const StepType& type) const {
  return type.hop >= 0 ? stage_of_hop(type.hop) : gradient_stage(type);
}

int Problem::gradient_stage(const StepType& type) const {
  if (type.second_hop >= 0) return stage_of_hop(type.second_hop);
  if (type.hop >= 0) return stage_of_hop(type.hop);
  return static_cast<int>(&type - types_.data()) / 4;  // a W
}

Step Problem::pair(int forward_stage, int backward_stage) const {
  const int rank = rank_of_stage_[forward_stage];
  return static_cast<Step>(first_pair_[rank] + local_of_stage_[forward_stage] * stages_on_[rank].size() +
                           local_of_stage_[backward_stage]);
}

Order order_of(const Problem& problem, const Schedule& schedule) {
  Order order;
  for (const auto& actions : schedule.actions) {
    auto& steps = order.emplace_back();
    for (const Action& action : actions) {
      const auto passes = action.passes();
      if (action.is_overlap()) {
        const Step pair = problem.pair(passes[0].stage, passes[1].stage);
        if (problem.pays(pair)) {
          steps.push_back(pair);
          continue;
        }
      }
      for (const Pass& pass : passes) steps.push_back(problem.step(static_cast<Kind>(pass.kind), pass.stage));
    }
  }
  return order;
}

std::vector<std::vector<Action>> actions_of(const Problem& problem, const Order& order) {
  std::vector<std::int32_t> next(problem.num_hops(), 0);  // micro-batch of each hop
  std::vector<std::deque<std::int32_t>> lacks_weight(problem.num_stages());
  std::vector<std::vector<Action>> lists;
  for (const auto& steps : order) {
    auto& actions = lists.emplace_back();
    for (const Step step : steps) {
      const StepType& type = problem.type(step);
      const int stage = problem.stage(type);
      switch (type.kind) {
        case Kind::kForward:
          actions.emplace_back(forward(stage, next[type.hop]++));
          break;
        case Kind::kBackward:
          actions.emplace_back(backward(stage, next[type.hop]++));
          break;
        case Kind::kInputGradient:
          lacks_weight[stage].push_back(next[type.hop]);
          actions.emplace_back(input_gradient(stage, next[type.hop]++));
          break;
        case Kind::kWeightGradient:
          actions.emplace_back(weight_gradient(stage, lacks_weight[stage].front()));
          lacks_weight[stage].pop_front();
          break;
        case Kind::kPair:
          actions.emplace_back(
              Action::overlap(forward(stage, next[type.hop]++),
                              backward(problem.gradient_stage(type), next[type.second_hop]++)));
          break;
      }
    }
  }
  return lists;
}

bool fits(const Problem& problem, int rank, const std::vector<Step>& steps) {
  thread_local std::vector<std::int32_t> forwards, gradients, lacking;
  forwards.assign(problem.stages_on(rank).size(), 0);
  gradients.assign(forwards.size(), 0);
  lacking.assign(forwards.size(), 0);
  const Limits& limits = problem.limits(rank);
  std::int64_t held = 0;
  std::int64_t bytes = 0;
  for (const Step step : steps) {
    const StepType& type = problem.type(step);
    if (held + type.rise > limits.activations || bytes + type.rise_bytes > limits.bytes) return false;
    held += type.change;
    bytes += type.change_bytes;
    if (type.has_gradient()) {
      // A pair's backward cannot use the forward beside it.
      if (gradients[type.gradient]++ >= forwards[type.gradient]) return false;
      if (type.kind == Kind::kInputGradient) ++lacking[type.gradient];
    } else if (type.kind == Kind::kWeightGradient && --lacking[type.gradient] < 0) {
      return false;
    }
    if (type.has_forward()) ++forwards[type.forward];
  }
  return true;
}

bool fits(const Problem& problem, const Order& order) {
  for (int rank = 0; rank < problem.num_ranks(); ++rank) {
    if (!fits(problem, rank, order[rank])) return false;
  }
  return true;
}

}  // namespace counterflow::searching
