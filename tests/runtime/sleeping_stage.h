// A stage that computes nothing and takes a given time for it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "counterflow/cost.h"
#include "counterflow/runtime/stage.h"

namespace counterflow::runtime {

/// F, I, W and an overlapped pair of two such stages take the times of a cost in units of `unit_us`; a B
/// takes I + W.
class SleepingStage : public Stage {
 public:
  SleepingStage(const UniformCost& cost, std::int64_t unit_us) : cost_(cost), unit_us_(unit_us) {}

  Tensors forward(const Tensors& inputs) override {
    sleep(cost_.f);
    return inputs;
  }

  std::unique_ptr<StageBackward> forward_with_backward(const Tensors& inputs, Tensors& outputs) override {
    sleep(cost_.f);
    outputs = inputs;
    return std::make_unique<Backward>(*this);
  }

  std::unique_ptr<StageBackward> overlap(const Tensors& inputs, Tensors& outputs, StageBackward& backward,
                                         const Tensors& output_gradients, Tensors& input_gradients) override {
    if (!dynamic_cast<Backward*>(&backward)) return nullptr;
    sleep(cost_.overlap());
    outputs = inputs;
    input_gradients = output_gradients;
    return std::make_unique<Backward>(*this);
  }

 private:
  class Backward : public StageBackward {
   public:
    explicit Backward(const SleepingStage& stage) : stage_(stage) {}
    Tensors backward(const Tensors& gradients) override {
      stage_.sleep(stage_.cost_.i + stage_.cost_.w);
      return gradients;
    }
    Tensors input_gradients(const Tensors& gradients) override {
      stage_.sleep(stage_.cost_.i);
      return gradients;
    }
    void weight_gradients() override { stage_.sleep(stage_.cost_.w); }

   private:
    const SleepingStage& stage_;
  };

  void sleep(Time time) const { std::this_thread::sleep_for(std::chrono::microseconds(time * unit_us_)); }

  UniformCost cost_;
  std::int64_t unit_us_;
};

}  // namespace counterflow::runtime
