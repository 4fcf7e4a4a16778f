// AdamW, and the learning rate over a run. Neither knows of the pipeline.
#pragma once

#include <cstdint>
#include <vector>

#include "counterflow/runtime/stage.h"

namespace train_gpt {

using counterflow::runtime::NamedTensor;

/// Decoupled weight decay (Loshchilov and Hutter, 2019), one pass over each parameter.
class AdamW {
 public:
  explicit AdamW(std::vector<NamedTensor> parameters);

  /// Updates the parameters from their gradients and drops these.
  void step(double learning_rate);

  /// The state, as "adamw.mean.NAME" and the like; what is copied into these tensors is the state to go on
  /// with.
  std::vector<NamedTensor> state() const;

 private:
  struct Group {
    double weight_decay = 0;
    std::vector<at::Tensor> parameters, means, squares, steps;
  };

  std::vector<Group> groups_;  ///< matrices, which decay, and vectors, which do not
  std::vector<NamedTensor> state_;
};

/// The gradients of a step, all taken together, are scaled down to this norm.
constexpr double kMostGradientNorm = 1.0;

/// A linear warm-up over the first tenth, then half a cosine down to a tenth of `peak`. Steps count from 0.
double learning_rate(double peak, std::int64_t step, std::int64_t num_steps);

}  // namespace train_gpt
