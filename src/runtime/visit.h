// One micro-batch in one stage, from its forward to the end of its backward.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "counterflow/runtime/pipeline.h"
#include "counterflow/runtime/stage.h"

namespace counterflow::runtime {

/// What a forward pass runs with. The references outlive the visit.
struct VisitSettings {
  Stage& stage;
  const Loss* loss = nullptr;        ///< where the stage is the last one
  const Tensors* targets = nullptr;  ///< of the loss
  std::uint64_t random_seed = 0;
  bool training = true;
  bool recompute = false;  ///< keep the inputs only, and run forward again when backward needs it
};

class Visit {
 public:
  /// Runs the forward pass. `differentiable` says for which inputs gradients will be wanted.
  Visit(const VisitSettings& settings, const Tensors& inputs, const std::vector<char>& differentiable);

  /// The stage's outputs, detached. May be taken (moved from).
  Tensors& outputs() { return outputs_; }

  /// For each output whether a gradient may come back for it.
  const std::vector<char>& differentiable_outputs() const { return differentiable_outputs_; }

  /// The loss, detached; undefined where the settings had none.
  const at::Tensor& loss() const { return loss_; }

  /// B, I and W (StageBackward). For a visit with a loss the gradient is that of the loss.
  StageBackward& backward() { return *backward_; }

 private:
  Tensors outputs_;
  std::vector<char> differentiable_outputs_;
  at::Tensor loss_;
  std::unique_ptr<StageBackward> backward_;
};

}  // namespace counterflow::runtime
