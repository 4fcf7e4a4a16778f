// GPipe: all forwards, then all backwards. Source: Huang et al., GPipe (arXiv 1811.06965), section 2; the
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

/// The micro-batches enter one stage after another, twice: (p - 1) forwards and (p - 1) backwards of waiting.
std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  return (size.ranks - 1) * (cost.f + cost.b());
}

std::optional<int> peak_activations(const Size& size, int) {
  return size.micro_batches;
}

}  // namespace

const Generator gpipe = {
    .name = "gpipe",
    .summary = "all forwards, then all backwards",
    .source = "GPipe (arXiv 1811.06965) section 2, torch.distributed.pipelining",
    .constraint = "any ranks and micro-batches",
    .fits = fits,
    .make = make,
    .bubble_formula = "(p - 1)(F + B)",
    .peak_formula = "m",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
