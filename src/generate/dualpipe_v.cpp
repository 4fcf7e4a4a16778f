// DualPipeV: DualPipe cut in half and folded, so that each rank holds both legs of a V and no stage lives
// twice. Source: deepseek-ai/DualPipe, dualpipev.py; the cut is Sea AI Lab's ("DualPipe could be better
// without the Dual").
#include "dualpipe_steps.h"
#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size& size) {
  return size.micro_batches >= 2 * size.ranks;
}

Schedule make(const Size& size) {
  Schedule schedule{"dualpipe-v", Placement::v(size.ranks, size.micro_batches), {}, {}, {}};
  for (int rank = 0; rank < size.ranks; ++rank) {
    const auto stages = schedule.placement.stages_on(rank, 0);
    schedule.actions.push_back(
        dualpipe_steps(size.ranks, rank, size.micro_batches, Lane{stages[0], 0}, Lane{stages[1], 0}));
  }
  return schedule;
}

std::optional<Time> bubble(const Size& size, const UniformCost& cost, int rank) {
  return dualpipe_bubble(size.ranks, rank, cost);
}

std::optional<int> peak_activations(const Size& size, int) {
  return 2 * size.ranks + 1;
}

}  // namespace

const Generator dualpipe_v = {
    .name = "dualpipe-v",
    .summary = "DualPipe folded into a V: two stages a rank, one copy of the parameters",
    .source = "deepseek-ai/DualPipe, dualpipev.py",
    .constraint = "micro-batches at least 2 x ranks",
    .stages_per_rank = 2,
    .fits = fits,
    .make = make,
    .bubble_formula =
        "(h - 1)(FB - 2W + max(0, W - I)) + max((h - 1)F, (h - 1)I - F) - max(0, h - 2 - d)(F + B - FB), h = "
        "p, d = r, for "
        "FB >= max(F, B)",
    .peak_formula = "2p + 1",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
