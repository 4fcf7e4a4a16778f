// Interleaved 1F1B: several stages a rank, in loops, which divides 1F1B's bubble by their number. Source:
// Narayanan et al., Megatron-LM (arXiv 2104.04473), section 2.2.2; torch.distributed.pipelining's
// ScheduleInterleaved1F1B.
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
};

}  // namespace counterflow::generators
