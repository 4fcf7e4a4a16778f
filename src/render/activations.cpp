#include "activations.h"

namespace counterflow {
namespace {

class ActivationCounter {
 public:
  ActivationCounter(const CostModel& costs, Passes passes) : costs_(costs), passes_(passes) {}

  std::vector<ActivationSample> run(const std::vector<Bar>& bars) {
    for (const Bar& bar : bars) {
      const ActivationSample before = now_;
      for (const Pass& pass : bar.action.passes()) begin(pass);
      record(bar.begin, before);
      const ActivationSample during = now_;
      for (const Pass& pass : bar.action.passes()) end(pass);
      record(bar.end, during);
    }
    return std::move(samples_);
  }

 private:
  void begin(const Pass& pass) {
    if (pass.kind != PassKind::kForward) return;
    ++now_.count;
    now_.bytes += costs_.stage(pass.stage).activation_bytes;
  }

  void end(const Pass& pass) {
    const StageCost& cost = costs_.stage(pass.stage);
    if (releases_activation(pass.kind) || passes_ == Passes::kForward) --now_.count;
    if (pass.kind == PassKind::kForward && passes_ == Passes::kForward) now_.bytes -= cost.activation_bytes;
    if (pass.kind == PassKind::kBackward) now_.bytes -= cost.activation_bytes;
    if (pass.kind == PassKind::kInputGradient) now_.bytes += cost.weight_store_bytes - cost.activation_bytes;
    if (pass.kind == PassKind::kWeightGradient) now_.bytes -= cost.weight_store_bytes;
  }

  /// A rise at the time of a fall (one bar ends where the next begins) stays a sample of its own: the peak
  /// counts as simulate() counts it.
  void record(Time time, const ActivationSample& before) {
    if (now_.count == before.count && now_.bytes == before.bytes) return;
    now_.time = time;
    samples_.push_back(now_);
  }

  const CostModel& costs_;
  Passes passes_;
  ActivationSample now_;
  std::vector<ActivationSample> samples_;
};

}  // namespace

std::vector<ActivationSample> count_activations(const std::vector<Bar>& bars, const CostModel& costs,
                                                Passes passes) {
  return ActivationCounter(costs, passes).run(bars);
}

}  // namespace counterflow
