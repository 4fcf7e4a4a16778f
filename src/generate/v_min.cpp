// V-Min: the V with the shortest life of an activation, a third of 1F1B's memory.
// Source: Pipeline Parallelism with Controllable Memory (arXiv 2405.15362), section 3 and appendix A.
#include <algorithm>
#include <limits>

#include "building_block.h"
#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size&) {
  return true;
}

/// A micro-batch moves on every slot, down the V and up, and back the same way. Where 3 divides the ranks
/// it waits two slots before it turns back, or its passes would meet the next micro-batches' in a slot.
BuildingBlock building_block(int ranks) {
  const int wait = ranks % 3 == 0 ? 2 : 0;
  BuildingBlock block;
  for (int n = 0; n < 2 * ranks; ++n) block.slots.push_back(n);
  for (int n = 2 * ranks; n < 4 * ranks; ++n) block.slots.push_back(wait + n);
  block.settled = std::numeric_limits<int>::max();
  return block;
}

Schedule make(const Size& size) {
  Schedule schedule{"v-min", Placement::v(size.ranks, size.micro_batches), {}, {}, {}};
  schedule.actions = repeat_and_squeeze(building_block(size.ranks), schedule.placement);
  return schedule;
}

/// Found by simulation, for passes that all take the same time, and the same as of the authors' own program
/// (sail-sg/zero-bubble) where that is not slower. With few micro-batches the way of the first one decides.
std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  const int p = size.ranks;
  const int m = size.micro_batches;
  if (cost.f != cost.i || cost.i != cost.w) return std::nullopt;
  if (p == 1) return 0;
  if (p == 3 && m == 2) return cost.f * 4;
  if (m <= p / 3 + 1) return cost.f * (4 * (p - m) - 1);
  return cost.f * (p % 3 == 0 ? 4 * p - 7 : 4 * p - 5);
}

/// Where p = 2 mod 3 the idle slots of every third rank fall so that its weight gradients run sooner.
std::optional<int> peak_activations(const Size& size, int rank) {
  const int p = size.ranks;
  const int m = size.micro_batches;
  const int most = 2 * ((p + 4) / 3);
  if (p % 3 != 2) return std::min(2 * m, most);
  if (m <= (p + 1) / 3) return 2 * m;
  if (m < p) return std::nullopt;
  return rank % 3 == 0 ? most - 2 : most;
}

}  // namespace

const Generator v_min = {
    .name = "v-min",
    .summary = "a V that holds the least: a third of 1F1B's memory",
    .source = "Pipeline Parallelism with Controllable Memory (arXiv 2405.15362) section 3",
    .constraint = "any ranks and micro-batches",
    .stages_per_rank = 2,
    .fits = fits,
    .make = make,
    .bubble_formula = "4p - 5, or 4p - 7 where 3 divides p, for F = I = W = 1, m >= p / 3 + 2",
    .peak_formula = "2 ceil((p + 2) / 3), for p = 2 mod 3 two less on every third rank",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
