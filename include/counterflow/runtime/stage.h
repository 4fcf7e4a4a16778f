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

/// Tensors in, tensors out, and parameters of its own. make_stage() (module.h) makes one of any torch module.
/// Used by one thread.
class Stage {
 public:
  virtual ~Stage() = default;

  /// Under autograd, as any module's forward. What it reads beside its inputs and parameters must not depend
  /// on the order in which micro-batches come.
  virtual Tensors forward(const Tensors& inputs) = 0;

  virtual std::vector<NamedTensor> parameters() const { return {}; }
  virtual std::vector<NamedTensor> buffers() const { return {}; }

  /// Training or evaluation mode (dropout, batch norm).
  virtual void train(bool) {}
};

}  // namespace counterflow::runtime
