// Chimera: two pipelines of opposite directions, each of which runs in the other's bubbles.
// Source: Chimera (arXiv 2107.06925), sections 3.1 and 3.5 (direct concatenation); Shigangli/Chimera has the
// same order where its program is complete.
#include <algorithm>

#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size& size) {
  return size.ranks % 2 == 0 && size.micro_batches >= 2 && size.micro_batches % (size.ranks / 2) == 0;
}

/// As many micro-batches go down as up, or one more where their number is odd.
Placement placement(const Size& size) {
  if (size.micro_batches % 2 == 0) return Placement::bidirectional(size.ranks, size.micro_batches);
  const Placement even = Placement::bidirectional(size.ranks, size.micro_batches + 1);
  std::vector<Direction> directions(even.directions().begin(), even.directions().end());
  --directions[1].num_micro_batches;
  return Placement(size.ranks, std::move(directions));
}

// Chimera is drawn in slots that hold one pass each. The paper's unit is ranks / 2 micro-batches in each
// direction, one entering every other slot; the next unit enters as its first micro-batch leaves. A
// micro-batch takes a slot a stage, forwards and then backwards. No two passes want a slot of the same rank:
// of those with the same parity one direction's forwards and the other's backwards take turns.
std::vector<Action> rank_actions(const Placement& placement, int rank) {
  const int stages = placement.num_stages();
  const int unit = stages / 2;
  const int units = (placement.direction(0).num_micro_batches + unit - 1) / unit;
  constexpr Pass kIdle{-1, -1, PassKind::kForward};
  std::vector<Pass> slots(2 * static_cast<std::size_t>(stages) * (units + 1), kIdle);

  for (int d = 0; d < placement.num_directions(); ++d) {
    const Direction& direction = placement.direction(d);
    const int stage = placement.stages_on(rank, d)[0];
    for (int n = 0; n < direction.num_micro_batches; ++n) {
      const std::size_t enters = 2 * (static_cast<std::size_t>(n / unit) * stages + n % unit);
      slots[enters + stage] = forward(stage, direction.first_micro_batch + n);
      slots[enters + 2 * stages - 1 - stage] = backward(stage, direction.first_micro_batch + n);
    }
  }

  std::vector<Action> actions;
  actions.reserve(2 * static_cast<std::size_t>(placement.num_micro_batches()));
  std::copy_if(slots.begin(), slots.end(), std::back_inserter(actions),
               [&](const Pass& pass) { return !(pass == kIdle); });
  return actions;
}

Schedule make(const Size& size) {
  Schedule schedule{"chimera", placement(size), {}, {}, {}};
  for (int rank = 0; rank < size.ranks; ++rank) {
    schedule.actions.push_back(rank_actions(schedule.placement, rank));
  }
  return schedule;
}

std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  if (size.micro_batches % size.ranks != 0) return std::nullopt;
  const Time k = size.micro_batches / size.ranks;
  return (size.ranks - 2) * std::max(k * cost.b() - (k - 1) * cost.f, k * cost.f - (k - 1) * cost.b());
}

std::optional<int> peak_activations(const Size& size, int rank) {
  if (size.micro_batches < size.ranks) return std::nullopt;
  return size.ranks / 2 + 1 + std::min(rank, size.ranks - 1 - rank);
}

}  // namespace

const Generator chimera = {
    .name = "chimera",
    .summary = "two pipelines of opposite directions, full backwards",
    .source = "Chimera (arXiv 2107.06925) sections 3.1 and 3.5",
    .constraint = "ranks even, micro-batches at least 2 and a multiple of ranks / 2",
    .copies = 2,
    .fits = fits,
    .make = make,
    .bubble_formula = "(p - 2) max(kB - (k - 1)F, kF - (k - 1)B) for m = k p",
    .peak_formula = "p / 2 + 1 + min(r, p - 1 - r) for m >= p",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
