// Source: DeepSeek-V3 Technical Report (arXiv 2412.19437), section 3.2.1, and deepseek-ai/DualPipe.
#include "dualpipe_steps.h"

#include <algorithm>
#include <deque>

namespace counterflow::generators {
namespace {

/// Emits actions in terms of lanes: 0 travels towards the middle first, 1 comes back from it.
class Emitter {
 public:
  Emitter(int micro_batches, Lane lane0, Lane lane1) : lanes_{lane0, lane1} {
    actions_.reserve(4 * static_cast<std::size_t>(micro_batches));
  }

  void forward(int lane) { actions_.emplace_back(next(forwards_, PassKind::kForward, lane)); }
  void backward(int lane) { actions_.emplace_back(next(backwards_, PassKind::kBackward, lane)); }

  void input_gradient(int lane) {
    const Pass pass = next(backwards_, PassKind::kInputGradient, lane);
    actions_.emplace_back(pass);
    weight_store_.push_back(weight_gradient(pass));
  }

  /// Zero bubble for the tail of the step: from some point on, backwards are split.
  void backward_or_input_gradient(int lane, bool split) { split ? input_gradient(lane) : backward(lane); }

  /// Weight gradients leave their store first in, first out.
  void weight_gradient() {
    actions_.emplace_back(weight_store_.front());
    weight_store_.pop_front();
  }

  void forward_backward(int forward_lane, int backward_lane) {
    const Pass forward = next(forwards_, PassKind::kForward, forward_lane);
    actions_.emplace_back(Action::overlap(forward, next(backwards_, PassKind::kBackward, backward_lane)));
  }

  std::vector<Action> take() { return std::move(actions_); }

 private:
  static Pass weight_gradient(const Pass& pass) {
    return {pass.stage, pass.micro_batch, PassKind::kWeightGradient};
  }

  Pass next(std::array<int, 2>& counters, PassKind kind, int lane) {
    return {lanes_[lane].stage, lanes_[lane].first_micro_batch + counters[lane]++, kind};
  }

  std::array<Lane, 2> lanes_;
  std::array<int, 2> forwards_{};
  std::array<int, 2> backwards_{};
  std::deque<Pass> weight_store_;
  std::vector<Action> actions_;
};

}  // namespace

std::vector<Action> dualpipe_steps(int depth, int position, int micro_batches, Lane lane0, Lane lane1) {
  Emitter rank(micro_batches, lane0, lane1);
  const int to_middle = depth - position - 1;
  const int from_end = position + 1;
  const bool is_middle = to_middle == 0;

  // Step 1: nF0
  for (int n = 0; n < 2 * to_middle; ++n) rank.forward(0);

  // Step 2: nF0F1
  for (int n = 0; n < from_end; ++n) {
    rank.forward(0);
    rank.forward(1);
  }

  // Step 3: nB1W1F1 (zero bubble)
  for (int n = 0; n < to_middle; ++n) {
    rank.input_gradient(1);
    rank.weight_gradient();
    rank.forward(1);
  }

  // Step 4 (the main one): nF0B1F1B0. The middle's first pair is not overlapped: its neighbour waits for the
  // forward.
  for (int n = 0; n < micro_batches - 2 * depth + from_end; ++n) {
    if (n == 0 && is_middle) {
      rank.forward(0);
      rank.backward(1);
    } else {
      rank.forward_backward(0, 1);
    }
    rank.forward_backward(1, 0);
  }

  // Step 5: nB1F1B0
  for (int n = 0; n < to_middle; ++n) {
    rank.backward(1);
    rank.forward_backward(1, 0);
  }

  // Step 6: nB1B0 (zero bubble for its second half, which begins with B1 on odd positions and with B0 on even
  // ones)
  const int first_split = from_end / 2 * 2 + (position % 2 == 1 ? 0 : 1);
  for (int n = 0; n < from_end; ++n) {
    rank.backward_or_input_gradient(1, 2 * n >= first_split);
    rank.backward_or_input_gradient(0, 2 * n + 1 >= first_split);
  }

  // Step 7: nW1B0 (zero bubble)
  for (int n = 0; n < to_middle; ++n) {
    rank.weight_gradient();
    rank.input_gradient(0);
  }

  // Step 8: nW
  for (int n = 0; n < from_end; ++n) rank.weight_gradient();

  return rank.take();
}

std::optional<Time> dualpipe_bubble(int depth, int position, const UniformCost& cost) {
  const Time pair = cost.overlap();
  if (pair < std::max(cost.f, cost.b())) return std::nullopt;
  // Of the published (h - 1)(FB + I - 2W), the input gradient turns out to be a weight gradient where that is
  // longer (it holds up the way out, step 7), and a forward where F and I differ, since the slower of the two
  // sets the pace until all ranks have reached step 4.
  const Time hops = depth - 1;
  const Time middle = hops * (pair - 2 * cost.w + std::max<Time>(0, cost.w - cost.i)) +
                      std::max(hops * cost.f, hops * cost.i - cost.f);
  // Each rank further out than the middle and its neighbour runs one pair less than the rank inside it, and
  // so saves less time by overlapping.
  const Time fewer_pairs = std::max(0, depth - 2 - position);
  return middle - fewer_pairs * (cost.f + cost.b() - pair);
}

}  // namespace counterflow::generators
