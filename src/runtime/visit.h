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
  Visit(Visit&&) noexcept;
  ~Visit();

  /// The same, and the backward pass of another visit with it (OVERLAP_F_B): together where the stages know
  /// how, otherwise one after the other.
  static Visit overlap(const VisitSettings& settings, const Tensors& inputs,
                       const std::vector<char>& differentiable, Visit& other, const Tensors& output_gradients,
                       Tensors& input_gradients);

  /// Whether another stage's forward may know how to run together with this backward: not if it is plain
  /// autograd.
  bool can_overlap() const;

  /// The stage's outputs, detached. May be taken (moved from).
  Tensors& outputs() { return outputs_; }

  /// For each output whether a gradient may come back for it.
  const std::vector<char>& differentiable_outputs() const { return differentiable_outputs_; }

  /// The loss, detached; undefined where the settings had none.
  const at::Tensor& loss() const { return loss_; }

  /// B, I and W, as StageBackward has them. In a visit with a loss the gradient is that of the loss.
  Tensors backward(const Tensors& output_gradients);
  Tensors input_gradients(const Tensors& output_gradients);
  void weight_gradients();

 private:
  struct Forward;
  class Backward;

  Visit() = default;
  void adopt(const VisitSettings& settings, Forward forward, bool has_graph);

  Tensors outputs_;
  std::vector<char> differentiable_outputs_;
  at::Tensor loss_;
  std::unique_ptr<Backward> backward_;
};

}  // namespace counterflow::runtime
