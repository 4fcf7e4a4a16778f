// Looped BFS (breadth-first pipeline parallelism): GPipe over several stages a rank, in loops. Source:
// Lamy-Poirier (arXiv 2211.05953), section 3; torch.distributed.pipelining's ScheduleLoopedBFS.
#include <ranges>

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
    for (const int stage : stages | std::views::reverse) {
      for (int n = m - 1; n >= 0; --n) actions.emplace_back(backward(stage, n));
    }
  }
  return schedule;
}

}  // namespace

const Generator looped_bfs = {
    .name = "looped-bfs",
    .summary = "GPipe over several stages a rank, all micro-batches through one before the next",
    .source = "Breadth-First Pipeline Parallelism (arXiv 2211.05953) section 3, torch.distributed.pipelining",
    .constraint = "any ranks, micro-batches and stages a rank",
    .stages_per_rank = 2,
    .takes_stages_per_rank = true,
    .fits = fits,
    .make = make,
};

}  // namespace counterflow::generators
