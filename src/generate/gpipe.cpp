// GPipe: all forwards, then all backwards. Source: Huang et al., GPipe (arXiv 1811.06965), section 2.3; the
// order of backwards is that of torch.distributed.pipelining's ScheduleGPipe.
#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size&) {
  return true;
}

Schedule make(const Size& size) {
  Schedule schedule{"gpipe", Placement::loop(size.ranks, 1, size.micro_batches), {}, {}, {}};
  for (int rank = 0; rank < size.ranks; ++rank) {
    const int stage = schedule.placement.stages_on(rank, 0)[0];
    std::vector<Action>& actions = schedule.actions.emplace_back();
    actions.reserve(2 * static_cast<std::size_t>(size.micro_batches));
    for (int n = 0; n < size.micro_batches; ++n) actions.emplace_back(forward(stage, n));
    for (int n = 0; n < size.micro_batches; ++n) actions.emplace_back(backward(stage, n));
  }
  return schedule;
}

}  // namespace

const Generator gpipe = {
    .name = "gpipe",
    .summary = "all forwards, then all backwards",
    .source = "GPipe (arXiv 1811.06965) section 2.3, torch.distributed.pipelining",
    .constraint = "any ranks and micro-batches",
    .fits = fits,
    .make = make,
};

}  // namespace counterflow::generators
