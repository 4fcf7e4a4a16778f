// ZB-H1 (ZB1P): 1F1B whose weight gradients are split off and run late, so that the last rank never waits
// for them. Holds no more than 1F1B's first rank.
// Source: Zero Bubble (arXiv 2401.10241), section 2.3.1. The paper's B is our I.
#include <algorithm>

#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size& size) {
  return size.micro_batches >= size.ranks;
}

std::vector<Action> rank_actions(const Size& size, int rank) {
  const int to_last = size.ranks - 1 - rank;
  std::vector<Action> actions;
  actions.reserve(3 * static_cast<std::size_t>(size.micro_batches));

  // Warm-up: the first micro-batch is on its way to the last rank.
  for (int n = 0; n < to_last; ++n) actions.emplace_back(forward(rank, n));

  // One forward, one backward. Rank r is r weight gradients behind: with the ranks - r activations whose
  // backward is still to come that makes `ranks` on every rank.
  for (int n = 0; n < size.micro_batches; ++n) {
    if (n + to_last < size.micro_batches) actions.emplace_back(forward(rank, n + to_last));
    actions.emplace_back(input_gradient(rank, n));
    if (n >= rank) actions.emplace_back(weight_gradient(rank, n - rank));
  }

  // The weight gradients left over fill what 1F1B's cool-down leaves idle.
  for (int n = size.micro_batches - rank; n < size.micro_batches; ++n) {
    actions.emplace_back(weight_gradient(rank, n));
  }
  return actions;
}

Schedule make(const Size& size) {
  Schedule schedule{"zb-h1", Placement::loop(size.ranks, 1, size.micro_batches), {}, {}, {}};
  for (int rank = 0; rank < size.ranks; ++rank) schedule.actions.push_back(rank_actions(size, rank));
  return schedule;
}

std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  return (size.ranks - 1) * std::max({cost.f, cost.i, cost.f + cost.i - cost.w});
}

std::optional<int> peak_activations(const Size& size, int) {
  return size.ranks;
}

}  // namespace

const Generator zb_h1 = {
    .name = "zb-h1",
    .summary = "1F1B with late weight gradients: a third of its bubble, its memory",
    .source = "Zero Bubble (arXiv 2401.10241) section 2.3.1",
    .constraint = "micro-batches at least ranks",
    .fits = fits,
    .make = make,
    .bubble_formula = "(p - 1) max(F, I, F + I - W)",
    .peak_formula = "p",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
