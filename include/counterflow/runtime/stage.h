// A stage of the model, as a pipeline runs it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "counterflow/runtime/tensors.h"

namespace counterflow::runtime {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// The backward pass of one micro-batch through one stage. The runtime calls backward() once, or
/// input_gradients() once and later weight_gradients() once. Gradients of parameters are added to theirs,
/// which may be of a wider type (PipelineOptions::gradient_type).
class StageBackward {
 public:
  virtual ~StageBackward() = default;

  /// B: from the gradients of the outputs to those of the inputs, undefined where there is none.
  virtual Tensors backward(const Tensors& output_gradients) = 0;

  /// I: the same, but no parameter's gradient is computed.
  virtual Tensors input_gradients(const Tensors& output_gradients) = 0;

  /// W: what I left out, and nothing twice.
  virtual void weight_gradients() = 0;
};

/// Tensors in, tensors out, and parameters of its own. make_stage() (module.h) makes one of any torch module.
/// Used by one thread.
class Stage {
 public:
  virtual ~Stage() = default;

  /// As any module's forward; under autograd when training. What it computes must not depend on the order in
  /// which micro-batches come. It may write to its inputs in place, unless it is recomputed; those of the
  /// first stage are the batch's own.
  virtual Tensors forward(const Tensors& inputs) = 0;

  /// For a stage that has a backward of its own: the outputs, detached, and what runs backward. By default
  /// nothing: autograd differentiates forward(), and the runtime splits that into I and W.
  virtual std::unique_ptr<StageBackward> forward_with_backward(const Tensors& inputs, Tensors& outputs) {
    static_cast<void>(inputs), static_cast<void>(outputs);
    return nullptr;
  }

  /// OVERLAP_F_B, for a stage that can run its forward together with another pass: does what
  /// forward_with_backward() does and, meanwhile, calls `backward`'s B in some way of its own, leaving its
  /// result in `input_gradients`. `backward` was made by forward_with_backward() of a stage of this rank,
  /// this one or another. By default, and where it is of a kind that this stage does not know, nothing: the
  /// runtime then runs forward and backward one after the other.
  virtual std::unique_ptr<StageBackward> overlap(const Tensors& inputs, Tensors& outputs,
                                                 StageBackward& backward, const Tensors& output_gradients,
                                                 Tensors& input_gradients) {
    static_cast<void>(inputs), static_cast<void>(outputs), static_cast<void>(backward);
    static_cast<void>(output_gradients), static_cast<void>(input_gradients);
    return nullptr;
  }

  virtual std::vector<NamedTensor> parameters() const { return {}; }
  virtual std::vector<NamedTensor> buffers() const { return {}; }

  /// Around an evaluation: from training mode (dropout, batch norm) to evaluation mode and back to what was.
  virtual void begin_evaluation() {}
  virtual void end_evaluation() {}
};

}  // namespace counterflow::runtime
