// DualPipe: micro-batches enter at both ends, and a forward of one direction overlaps a backward of the
// other. Source: DeepSeek-V3 Technical Report (arXiv 2412.19437), section 3.2.1; deepseek-ai/DualPipe,
// dualpipe.py.
#include <algorithm>

#include "dualpipe_steps.h"
#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size& size) {
  return size.ranks % 2 == 0 && size.micro_batches % 2 == 0 && size.micro_batches >= 2 * size.ranks;
}

/// How many ranks lie between a rank and its nearer end.
int distance_to_end(const Size& size, int rank) {
  return std::min(rank, size.ranks - 1 - rank);
}

Schedule make(const Size& size) {
  Schedule schedule{"dualpipe", Placement::bidirectional(size.ranks, size.micro_batches), {}, {}, {}};
  const Placement& placement = schedule.placement;
  for (int rank = 0; rank < size.ranks; ++rank) {
    const int near = rank < size.ranks / 2 ? 0 : 1;  // the direction that enters at the nearer end
    const auto lane = [&](int direction) {
      return Lane{placement.stages_on(rank, direction)[0], placement.direction(direction).first_micro_batch};
    };
    schedule.actions.push_back(dualpipe_steps(size.ranks / 2, distance_to_end(size, rank),
                                              size.micro_batches / 2, lane(near), lane(1 - near)));
  }
  return schedule;
}

std::optional<Time> bubble(const Size& size, const UniformCost& cost, int rank) {
  return dualpipe_bubble(size.ranks / 2, distance_to_end(size, rank), cost);
}

std::optional<int> peak_activations(const Size& size, int) {
  return size.ranks + 1;
}

}  // namespace

const Generator dualpipe = {
    .name = "dualpipe",
    .summary = "bidirectional, forwards of one direction overlapped with backwards of the other",
    .source = "DeepSeek-V3 (arXiv 2412.19437) section 3.2.1, deepseek-ai/DualPipe",
    .constraint = "ranks even, micro-batches even and at least 2 x ranks",
    .copies = 2,
    .fits = fits,
    .make = make,
    .bubble_formula =
        "(h - 1)(FB - 2W + max(0, W - I)) + max((h - 1)F, (h - 1)I - F) - max(0, h - 2 - d)(F + B - FB), h = "
        "p / 2, d = min(r, p - 1 - r), for "
        "FB >= max(F, B)",
    .peak_formula = "p + 1",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
