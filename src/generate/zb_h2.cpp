// ZB-H2 (ZB2P): twice the memory of 1F1B buys a schedule without a bubble between a rank's first and last
// action where F = I = W.
// Source: Zero Bubble (arXiv 2401.10241), section 2.3.2. The paper's B is our I.
#include <algorithm>

#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size& size) {
  return size.micro_batches >= 2 * size.ranks;
}

std::vector<Action> rank_actions(const Size& size, int rank) {
  const int warm_up = 2 * (size.ranks - rank) - 1;
  // Rank 0 sends its warm-up without a pause, so further down forwards and gradients alternate, and 2 * rank
  // weight gradients are put off until the forwards come slower. One more lets the last forward and the last
  // input gradient go first: they are what other ranks wait for.
  const int behind = rank == 0 ? 0 : 2 * rank + 1;
  std::vector<Action> actions;
  actions.reserve(3 * static_cast<std::size_t>(size.micro_batches));

  // Warm-up: forwards until the first gradient comes back, twice as many as in 1F1B.
  for (int n = 0; n < warm_up; ++n) actions.emplace_back(forward(rank, n));

  // One of each, the weight gradients `behind` micro-batches late.
  for (int n = 0; n < size.micro_batches; ++n) {
    actions.emplace_back(input_gradient(rank, n));
    if (n >= behind) actions.emplace_back(weight_gradient(rank, n - behind));
    if (n + warm_up < size.micro_batches) actions.emplace_back(forward(rank, n + warm_up));
  }

  // The weight gradients left over.
  for (int n = std::max(0, size.micro_batches - behind); n < size.micro_batches; ++n) {
    actions.emplace_back(weight_gradient(rank, n));
  }
  return actions;
}

Schedule make(const Size& size) {
  Schedule schedule{"zb-h2", Placement::loop(size.ranks, 1, size.micro_batches), {}, {}, {}};
  for (int rank = 0; rank < size.ranks; ++rank) schedule.actions.push_back(rank_actions(size, rank));
  return schedule;
}

// Each term is the slack of one path through the schedule. The first, the wait of the last rank for its first
// forward, is the largest where I <= 2F and 2W >= I: the paper's zero bubble.
std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  const Time p = size.ranks;
  const auto [f, i, w, fb] = cost;
  if (p == 1) return 0;
  return std::max({(p - 1) * f, (p - 1) * (i - f), f - 2 * i + w, (p - 1) * (f - 2 * i) + w,
                   (p - 3) * i - (p - 2) * f + w, (p - 1) * f + (p - 2) * (i - 2 * w),
                   (p - 1) * (f + i) - (2 * p - 1) * w});
}

// Half of an activation is given back at I already; counted so, no rank holds more than 2 * ranks - 1.
std::optional<int> peak_activations(const Size& size, int rank) {
  return rank == 0 ? 2 * size.ranks - 1 : 2 * size.ranks;
}

}  // namespace

const Generator zb_h2 = {
    .name = "zb-h2",
    .summary = "no bubble between a rank's first and last action, for twice 1F1B's memory",
    .source = "Zero Bubble (arXiv 2401.10241) section 2.3.2",
    .constraint = "micro-batches at least 2 x ranks",
    .fits = fits,
    .make = make,
    .bubble_formula = "(p - 1)F for F = I = W",
    .peak_formula = "2p, on rank 0 2p - 1",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
