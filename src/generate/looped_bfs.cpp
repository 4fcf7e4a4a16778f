// Looped BFS (breadth-first pipeline parallelism): GPipe over several stages a rank, in loops. Source:
// Lamy-Poirier (arXiv 2211.05953); torch.distributed.pipelining's ScheduleLoopedBFS.
#include <algorithm>
#include <cstdint>

#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size&) {
  return true;
}

Schedule make(const Size& size) {
  Schedule schedule{
      "looped-bfs", Placement::loop(size.ranks, size.stages_per_rank, size.micro_batches), {}, {}, {}};
  const int m = size.micro_batches;
  for (int rank = 0; rank < size.ranks; ++rank) {
    const auto stages = schedule.placement.stages_on(rank, 0);
    std::vector<Action>& actions = schedule.actions.emplace_back();
    actions.reserve(2 * stages.size() * m);
    for (const int stage : stages) {
      for (int n = 0; n < m; ++n) actions.emplace_back(forward(stage, n));
    }
    // The backwards are the forwards' mirror image.
    for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
      for (int n = m - 1; n >= 0; --n) actions.emplace_back(backward(*stage, n));
    }
  }
  return schedule;
}

/// GPipe's, of one stage; and where there are fewer micro-batches than ranks, the first of them is not back
/// at a rank when it has run the last, at every turn to its next stage.
std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  const Time turns = size.stages_per_rank - 1;
  return (size.ranks - 1 + turns * std::max(0, size.ranks - size.micro_batches)) * (cost.f + cost.b());
}

std::optional<int> peak_activations(const Size& size, int) {
  return static_cast<int>(std::int64_t{size.stages_per_rank} * size.micro_batches);
}

}  // namespace

const Generator looped_bfs = {
    .name = "looped-bfs",
    .summary = "GPipe over several stages a rank, all micro-batches through one before the next",
    .source = "Breadth-First Pipeline Parallelism (arXiv 2211.05953), torch.distributed.pipelining",
    .constraint = "any ranks, micro-batches and stages a rank",
    .stages_per_rank = 2,
    .takes_stages_per_rank = true,
    .fits = fits,
    .make = make,
    .bubble_formula = "(p - 1 + (v - 1) max(0, p - m))(F + B) with F and B of one of the v stages",
    .peak_formula = "v m",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
