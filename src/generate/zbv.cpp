// ZBV (ZB-V): zero bubble in a V of two stages a rank, at 1F1B's memory.
// Source: Zero Bubble (arXiv 2401.10241), section 6; torch.distributed.pipelining's ScheduleZBVZeroBubble
// has the same order. The paper's B is our I.
#include <algorithm>
#include <array>

#include "generators.h"

namespace counterflow::generators {
namespace {

bool fits(const Size&) {
  return true;
}

/// Emits actions in terms of legs: 0 goes down the V, 1 comes back up. Each kind of pass takes its
/// micro-batches in order; those from `micro_batches` on are left out.
class Emitter {
 public:
  Emitter(std::array<int, 2> stages, int micro_batches) : stages_(stages), micro_batches_(micro_batches) {
    actions_.reserve(6 * static_cast<std::size_t>(micro_batches));
  }

  void forward(int leg) { emit(PassKind::kForward, leg, forwards_[leg]++); }
  void input_gradient(int leg) { emit(PassKind::kInputGradient, leg, input_gradients_[leg]++); }
  void weight_gradient(int leg) { emit(PassKind::kWeightGradient, leg, weight_gradients_[leg]++); }

  void backward(int leg) {
    input_gradient(leg);
    weight_gradient(leg);
  }

  std::vector<Action> take() { return std::move(actions_); }

 private:
  void emit(PassKind kind, int leg, int micro_batch) {
    if (micro_batch < micro_batches_) actions_.emplace_back(Pass{stages_[leg], micro_batch, kind});
  }

  std::array<int, 2> stages_;
  int micro_batches_;
  std::array<int, 2> forwards_{};
  std::array<int, 2> input_gradients_{};
  std::array<int, 2> weight_gradients_{};
  std::vector<Action> actions_;
};

std::vector<Action> rank_actions(const Size& size, int rank, std::array<int, 2> stages) {
  Emitter emit(stages, size.micro_batches);
  const int to_turn = size.ranks - rank;
  // The order is made for enough micro-batches to fill the V; with fewer the rest is left out. A step takes
  // another micro-batch each round, so after as many rounds as there are micro-batches it has no more to
  // emit.
  const int full = std::max(size.micro_batches, 2 * size.ranks - 1);
  const auto rounds = [&](int number) { return std::min(number, size.micro_batches); };

  // Warm-up: nF0, until the first micro-batch is back from the turn
  for (int n = 0; n < rounds(2 * to_turn - 1); ++n) emit.forward(0);

  // nF1F0
  for (int n = 0; n < rounds(rank); ++n) {
    emit.forward(1);
    emit.forward(0);
  }

  // nF1I1W1
  for (int n = 0; n < rounds(to_turn); ++n) {
    emit.forward(1);
    emit.backward(1);
  }

  // Stable: nF0I0W0F1I1W1, at the end without F0
  for (int n = 0; n < rounds(full - size.ranks); ++n) {
    if (n < full - (2 * size.ranks - 1 - rank)) emit.forward(0);
    emit.backward(0);
    emit.forward(1);
    emit.backward(1);
  }

  // Cool-down: nI0I1
  for (int n = 0; n < rounds(rank); ++n) {
    emit.input_gradient(0);
    emit.input_gradient(1);
  }

  // nI0W0
  for (int n = 0; n < rounds(to_turn); ++n) emit.backward(0);

  // nW1, nW0
  for (const int leg : {1, 0}) {
    for (int n = 0; n < rounds(rank); ++n) emit.weight_gradient(leg);
  }
  return emit.take();
}

Schedule make(const Size& size) {
  Schedule schedule{"zbv", Placement::v(size.ranks, size.micro_batches), {}, {}, {}};
  for (int rank = 0; rank < size.ranks; ++rank) {
    const auto stages = schedule.placement.stages_on(rank, 0);
    schedule.actions.push_back(rank_actions(size, rank, {stages[0], stages[1]}));
  }
  return schedule;
}

// Each term is the slack of one path through the schedule.
std::optional<Time> bubble(const Size& size, const UniformCost& cost, int) {
  const Time p = size.ranks;
  const auto [f, i, w, fb] = cost;
  if (p == 1) return 0;
  if (size.micro_batches < 2 * size.ranks - 1) return std::nullopt;
  return std::max({(2 * p - 3) * f - (p - 2) * i, i + (p - 2) * w, (p - 1) * i, (p - 1) * f, f + (p - 2) * w,
                   2 * (p - 1) * (i - w), (2 * p - 2) * f - (p - 1) * i - w,
                   (2 * p - 2) * f - (2 * p - 1) * w, (2 * p - 3) * f + i - (2 * p - 2) * w,
                   (p - 1) * (f + i - 2 * w)});
}

std::optional<int> peak_activations(const Size& size, int rank) {
  return std::min({2 * size.ranks, size.micro_batches + 1 + rank, 2 * size.micro_batches});
}

}  // namespace

const Generator zbv = {
    .name = "zbv",
    .summary = "zero bubble in a V: two stages a rank, 1F1B's memory",
    .source = "Zero Bubble (arXiv 2401.10241) section 6, torch's ScheduleZBVZeroBubble",
    .constraint = "any ranks and micro-batches",
    .stages_per_rank = 2,
    .fits = fits,
    .make = make,
    .bubble_formula = "(p - 1)F for F = I = W, m >= 2p - 1",
    .peak_formula = "min(2p, m + 1 + r, 2m)",
    .bubble = bubble,
    .peak_activations = peak_activations,
};

}  // namespace counterflow::generators
