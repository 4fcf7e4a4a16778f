// 1F1B: every rank starts its backwards as early as it can, and from then on alternates. Source: Harlap et
// al., PipeDream (arXiv 1806.03377), with the flush at the end of a step as in Narayanan et al., Megatron-LM
// (arXiv 2104.04473), section 2.2.1.
#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size& size) {
  return size.micro_batches >= size.ranks;
}

Schedule make(const Size& size) {
  Schedule schedule{"1f1b", Placement::loop(size.ranks, 1, size.micro_batches), {}, {}, {}};
  const int m = size.micro_batches;
  for (int rank = 0; rank < size.ranks; ++rank) {
    const int stage = schedule.placement.stages_on(rank, 0)[0];
    const int warm_up = size.ranks - 1 - rank;
    std::vector<Action>& actions = schedule.actions.emplace_back();
    actions.reserve(2 * static_cast<std::size_t>(m));

    // Warm-up: one forward for each rank behind this one.
    for (int n = 0; n < warm_up; ++n) actions.emplace_back(forward(stage, n));

    // Steady state: one forward, one backward.
    for (int n = 0; n < m - warm_up; ++n) {
      actions.emplace_back(forward(stage, warm_up + n));
      actions.emplace_back(backward(stage, n));
    }

    // Cool-down: the backwards of what the warm-up left in flight.
    for (int n = m - warm_up; n < m; ++n) actions.emplace_back(backward(stage, n));
  }
  return schedule;
}

/// Megatron-LM (arXiv 2104.04473), section 2.2.1: GPipe's.
std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  return (size.ranks - 1) * (cost.f + cost.b());
}

/// The warm-up's forwards and the first of the steady state.
std::optional<int> peak_activations(const Size& size, int rank) {
  return size.ranks - rank;
}

}  // namespace

const Generator one_f_one_b = {
    .name = "1f1b",
    .summary = "one forward, one backward in turn: GPipe's bubble with at most one activation a rank behind",
    .source = "PipeDream (arXiv 1806.03377), Megatron-LM (arXiv 2104.04473) section 2.2.1",
    .constraint = "micro-batches at least ranks",
    .fits = fits,
    .make = make,
    .bubble_formula = "(p - 1)(F + B)",
    .peak_formula = "p - r",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
