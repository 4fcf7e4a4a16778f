#include "problem.h"

namespace counterflow::search {

Time Problem::duration(const Step& step) const {
  switch (step.kind) {
    case Step::Kind::kForward:
      return forward[step.stage];
    case Step::Kind::kBackward:
      return input_gradient[step.stage] + weight_gradient[step.stage];
    case Step::Kind::kInputGradient:
      return input_gradient[step.stage];
    case Step::Kind::kWeightGradient:
      return weight_gradient[step.stage];
    case Step::Kind::kOverlap:
      return pair(step.stage, step.other);
  }
  return 0;
}

std::optional<Order> order_of(const Schedule& schedule) {
  if (schedule.placement.num_directions() != 1) return std::nullopt;
  std::vector<std::int32_t> forwards(schedule.num_stages(), 0);
  std::vector<std::int32_t> gradients(schedule.num_stages(), 0);
  std::vector<std::int32_t> weights(schedule.num_stages(), 0);
  Order order;
  for (const auto& actions : schedule.actions) {
    auto& steps = order.emplace_back();
    for (const Action& action : actions) {
      for (const Pass& pass : action.passes()) {
        bool in_order = true;
        if (pass.kind == PassKind::kForward) in_order = pass.micro_batch == forwards[pass.stage]++;
        if (sends_gradient(pass.kind)) in_order = pass.micro_batch == gradients[pass.stage]++;
        if (releases_activation(pass.kind)) in_order = in_order && pass.micro_batch == weights[pass.stage]++;
        if (!in_order) return std::nullopt;
      }
      const Pass& first = action.passes()[0];
      const auto stage = static_cast<std::uint16_t>(first.stage);
      if (action.is_overlap()) {
        steps.push_back({Step::Kind::kOverlap, stage, static_cast<std::uint16_t>(action.passes()[1].stage)});
      } else {
        steps.push_back({static_cast<Step::Kind>(first.kind), stage, 0});
      }
    }
  }
  return order;
}

Schedule schedule_of(const Order& order, const Placement& placement) {
  std::vector<std::int32_t> forwards(placement.num_stages(), 0);
  std::vector<std::int32_t> gradients(placement.num_stages(), 0);
  std::vector<std::int32_t> weights(placement.num_stages(), 0);
  Schedule schedule{"search", placement, {}, {}, {}};
  for (const auto& steps : order) {
    auto& actions = schedule.actions.emplace_back();
    for (const Step& step : steps) {
      const int s = step.stage;
      switch (step.kind) {
        case Step::Kind::kForward:
          actions.emplace_back(forward(s, forwards[s]++));
          break;
        case Step::Kind::kBackward:
          actions.emplace_back(backward(s, gradients[s]++));
          ++weights[s];
          break;
        case Step::Kind::kInputGradient:
          actions.emplace_back(input_gradient(s, gradients[s]++));
          break;
        case Step::Kind::kWeightGradient:
          actions.emplace_back(weight_gradient(s, weights[s]++));
          break;
        case Step::Kind::kOverlap:
          actions.emplace_back(
              Action::overlap(forward(s, forwards[s]++), backward(step.other, gradients[step.other]++)));
          ++weights[step.other];
          break;
      }
    }
  }
  return schedule;
}

}  // namespace counterflow::search
