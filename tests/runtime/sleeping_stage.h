// A stage that computes nothing and takes a given time for it.
#pragma once

#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "counterflow/cost_model.h"
#include "counterflow/runtime/stage.h"

namespace counterflow::runtime {

/// Each action takes what a cost model in microseconds says.
class SleepingStage : public Stage {
 public:
  SleepingStage(CostModel costs, int stage) : costs_(std::move(costs)), stage_(stage) {}

  Tensors forward(const Tensors& inputs) override {
    sleep(counterflow::forward(stage_, 0));
    return inputs;
  }

  std::unique_ptr<StageBackward> forward_with_backward(const Tensors& inputs, Tensors& outputs) override {
    outputs = forward(inputs);
    return std::make_unique<Backward>(*this);
  }

  std::unique_ptr<StageBackward> overlap(const Tensors& inputs, Tensors& outputs, StageBackward& backward,
                                         const Tensors& output_gradients, Tensors& input_gradients) override {
    const auto* other = dynamic_cast<Backward*>(&backward);
    if (!other) return nullptr;
    sleep(Action::overlap(counterflow::forward(stage_, 0), counterflow::backward(other->stage(), 0)));
    outputs = inputs;
    input_gradients = output_gradients;
    return std::make_unique<Backward>(*this);
  }

 private:
  class Backward : public StageBackward {
   public:
    explicit Backward(const SleepingStage& sleeper) : sleeper_(sleeper) {}
    int stage() const { return sleeper_.stage_; }

    Tensors backward(const Tensors& gradients) override {
      sleeper_.sleep(counterflow::backward(stage(), 0));
      return gradients;
    }
    Tensors input_gradients(const Tensors& gradients) override {
      sleeper_.sleep(input_gradient(stage(), 0));
      return gradients;
    }
    void weight_gradients() override { sleeper_.sleep(weight_gradient(stage(), 0)); }

   private:
    const SleepingStage& sleeper_;
  };

  void sleep(const Action& action) const {
    std::this_thread::sleep_for(std::chrono::microseconds(costs_.duration(action)));
  }

  const CostModel costs_;
  const int stage_;
};

}  // namespace counterflow::runtime
