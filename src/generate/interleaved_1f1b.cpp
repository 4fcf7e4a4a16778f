// Interleaved 1F1B: several stages a rank, in loops, which divides 1F1B's bubble by their number. Source:
// Narayanan et al., Megatron-LM (arXiv 2104.04473), section 2.2.2; torch.distributed.pipelining's
// ScheduleInterleaved1F1B.
#include <algorithm>

#include "generators.h"
#include "interleaved_order.h"

namespace counterflow::generators {
namespace {

/// A rank has time for two more forwards than the rank behind it: one while the first micro-batch is on its
/// way there, one while the gradient is on its way back.
constexpr int kForEachRankBehind = 2;

Schedule make(const Size& size) {
  Schedule schedule{
      "interleaved-1f1b", Placement::loop(size.ranks, size.stages_per_rank, size.micro_batches), {}, {}, {}};
  const std::int64_t all = InterleavedOrder::num_forwards(size);
  for (int rank = 0; rank < size.ranks; ++rank) {
    const InterleavedOrder order(size, schedule.placement.stages_on(rank, 0));
    const std::int64_t warm_up = InterleavedOrder::warm_up(size, rank, kForEachRankBehind);
    std::vector<Action>& actions = schedule.actions.emplace_back();
    actions.reserve(2 * all);

    // Warm-up: forwards.
    for (std::int64_t n = 0; n < warm_up; ++n) actions.emplace_back(order.forward(n));

    // Steady state: one forward, one backward.
    for (std::int64_t n = 0; n < all - warm_up; ++n) {
      actions.emplace_back(order.forward(warm_up + n));
      actions.emplace_back(order.backward(n));
    }

    // Cool-down: backwards.
    for (std::int64_t n = all - warm_up; n < all; ++n) actions.emplace_back(order.backward(n));
  }
  return schedule;
}

/// Megatron-LM (arXiv 2104.04473), section 2.2.2: 1F1B's, of one stage. Without transfer times it does not
/// grow where torch's rounds are longer than the pipeline. Where they are shorter, since there are fewer
/// micro-batches than ranks, every turn to a rank's next stage waits for the first micro-batch to come round.
std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  const Time turns = size.stages_per_rank - 1;
  return (size.ranks - 1 + turns * std::max(0, size.ranks - size.micro_batches)) * (cost.f + cost.b());
}

/// The warm-up's forwards and the first of the steady state, if there is one.
std::optional<int> peak_activations(const Size& size, int rank) {
  const std::int64_t warm_up = InterleavedOrder::warm_up(size, rank, kForEachRankBehind);
  return static_cast<int>(std::min(warm_up + 1, InterleavedOrder::num_forwards(size)));
}

}  // namespace

const Generator interleaved_1f1b = {
    .name = "interleaved-1f1b",
    .summary = "1F1B over several stages a rank: the bubble divided by their number",
    .source = "Megatron-LM (arXiv 2104.04473) section 2.2.2, torch.distributed.pipelining",
    .constraint = "micro-batches a multiple of max(1, micro-batches / ranks rounded down)",
    .stages_per_rank = 2,
    .takes_stages_per_rank = true,
    .fits = InterleavedOrder::fits,
    .make = make,
    .bubble_formula = "(p - 1 + (v - 1) max(0, p - m))(F + B) with F and B of one of the v stages",
    .peak_formula = "min(2(p - 1 - r) + (v - 1)g + 1, v m), g = m / max(1, floor(m / p))",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
