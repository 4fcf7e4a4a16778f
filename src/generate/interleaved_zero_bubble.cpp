// Interleaved zero bubble: ZB-H1's split of the backward over several stages a rank. Source: Qi et al., Zero
// Bubble Pipeline Parallelism (arXiv 2401.10241), section 2.1; torch.distributed.pipelining's
// ScheduleInterleavedZeroBubble.
#include <algorithm>

#include "generators.h"
#include "interleaved_order.h"

namespace counterflow::generators {
namespace {

/// Half as many as interleaved 1F1B: the weight gradients that come later fill the other half.
constexpr int kForEachRankBehind = 1;

Schedule make(const Size& size) {
  Schedule schedule{"interleaved-zero-bubble",
                    Placement::loop(size.ranks, size.stages_per_rank, size.micro_batches),
                    {},
                    {},
                    {}};
  const std::int64_t all = InterleavedOrder::num_forwards(size);
  for (int rank = 0; rank < size.ranks; ++rank) {
    const InterleavedOrder order(size, schedule.placement.stages_on(rank, 0));
    const std::int64_t warm_up = InterleavedOrder::warm_up(size, rank, kForEachRankBehind);
    const std::int64_t lag = std::min<std::int64_t>(rank, all);
    std::vector<Action>& actions = schedule.actions.emplace_back();
    actions.reserve(3 * all);

    // Warm-up: forwards.
    for (std::int64_t n = 0; n < warm_up; ++n) actions.emplace_back(order.forward(n));

    // Steady state: one forward while there are any, one input gradient, one weight gradient. The weight
    // gradients lag behind, by more on later ranks, to be there for the bubble at the end.
    for (std::int64_t n = 0; n < all; ++n) {
      if (warm_up + n < all) actions.emplace_back(order.forward(warm_up + n));
      actions.emplace_back(order.backward(n, PassKind::kInputGradient));
      if (n >= lag) actions.emplace_back(order.backward(n - lag, PassKind::kWeightGradient));
    }

    // Cool-down: the weight gradients left over.
    for (std::int64_t n = all - lag; n < all; ++n) {
      actions.emplace_back(order.backward(n, PassKind::kWeightGradient));
    }
  }
  return schedule;
}

/// Zero Bubble (arXiv 2401.10241), section 2, gives (p - 1)(F + I - W), of one stage, for weight gradients
/// that are the shortest pass. In general each of the last rank's p - 1 late weight gradients hides no more
/// than the shortest pass takes. With fewer micro-batches than ranks there are fewer of them to hide it; no
/// closed form is known there for more than one stage a rank.
std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  if (size.micro_batches < size.ranks && size.stages_per_rank > 1) return std::nullopt;
  const int hiding = std::min(size.micro_batches, size.ranks) - 1;
  return (size.ranks - 1) * (cost.f + cost.i) - hiding * std::min({cost.f, cost.i, cost.w});
}

/// The warm-up's forwards, one more, and one for each weight gradient that lags: the same on every rank.
std::optional<int> peak_activations(const Size& size, int) {
  const std::int64_t peak =
      size.ranks + std::int64_t{size.stages_per_rank - 1} * InterleavedOrder::round(size);
  return static_cast<int>(std::min(peak, InterleavedOrder::num_forwards(size)));
}

}  // namespace

const Generator interleaved_zero_bubble = {
    .name = "interleaved-zero-bubble",
    .summary = "ZB-H1 over several stages a rank: weight gradients fill the bubble",
    .source = "Zero Bubble (arXiv 2401.10241) section 2.1, torch.distributed.pipelining",
    .constraint = "micro-batches a multiple of max(1, micro-batches / ranks rounded down)",
    .stages_per_rank = 2,
    .takes_stages_per_rank = true,
    .fits = InterleavedOrder::fits,
    .make = make,
    .bubble_formula =
        "(p - 1)(F + I) - (min(m, p) - 1) min(F, I, W) of one of the v stages, for m >= p or v = 1",
    .peak_formula = "min(p + (v - 1)g, v m), g = m / max(1, floor(m / p))",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
