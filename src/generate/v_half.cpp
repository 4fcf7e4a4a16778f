// V-Half: a V that holds half of what 1F1B does, for a bubble between ZBV's and V-Min's.
// Source: Pipeline Parallelism with Controllable Memory (arXiv 2405.15362), section 3 and appendix A.
#include <algorithm>

#include "building_block.h"
#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size&) {
  return true;
}

/// A micro-batch takes two slots a rank down the V and one up, and the same on its way back. Where the
/// number of ranks is even it waits three slots before it turns back, or its passes would meet the next
/// micro-batches' in a slot.
BuildingBlock building_block(int ranks) {
  const int wait = ranks % 2 == 0 ? 3 : 0;
  BuildingBlock block;
  for (int n = 0; n < ranks; ++n) block.slots.push_back(2 * n);
  for (int n = 0; n < ranks; ++n) block.slots.push_back(2 * ranks - 1 + n);
  for (int n = 0; n < ranks; ++n) block.slots.push_back(wait + 3 * ranks - 1 + 2 * n);
  for (int n = 0; n < ranks; ++n) block.slots.push_back(wait + 5 * ranks - 1 + n);
  block.settled = block.slots.back() - 1;
  return block;
}

Schedule make(const Size& size) {
  Schedule schedule{"v-half", Placement::v(size.ranks, size.micro_batches), {}, {}, {}};
  schedule.actions = repeat_and_squeeze(building_block(size.ranks), schedule.placement);
  return schedule;
}

/// Found by simulation, for passes that all take the same time, and the same as of the authors' own program
/// (sail-sg/zero-bubble) where that is not slower. With few micro-batches the way of the first one decides.
std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  const int p = size.ranks;
  const int m = size.micro_batches;
  if (cost.f != cost.i || cost.i != cost.w) return std::nullopt;
  const bool even = p % 2 == 0;
  if (p == 1) return 0;
  if (m <= p / 2) return cost.f * (4 * (p - m) - 1);
  if (m == p / 2 + 1) return cost.f * (even ? 2 * p - 3 : 2 * p - 2);
  return cost.f * (even ? std::max(1, 3 * p - 7) : 3 * p - 4);
}

std::optional<int> peak_activations(const Size& size, int) {
  return std::min(2 * size.micro_batches, size.ranks % 2 == 0 ? size.ranks + 2 : size.ranks + 1);
}

}  // namespace

const Generator v_half = {
    .name = "v-half",
    .summary = "a V that holds half of what 1F1B does",
    .source = "Pipeline Parallelism with Controllable Memory (arXiv 2405.15362) section 3",
    .constraint = "any ranks and micro-batches",
    .stages_per_rank = 2,
    .fits = fits,
    .make = make,
    .bubble_formula = "3p - 7 for even p >= 4, 3p - 4 for odd p, for F = I = W = 1, m >= p / 2 + 2",
    .peak_formula = "p + 2 for even p, p + 1 for odd p",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
