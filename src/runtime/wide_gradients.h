// Gradients in a wider type than their parameters': weights in bf16 whose gradients are added up in fp32.
//
// A micro-batch's gradient is computed in the parameter's type. Autograd adds it to one that is already there
// in place, in the type of that one; what is left to do is to widen the first. A hook does, as soon as
// autograd has put it there and on the same stream, so that no more than one parameter's is held twice.
//
// Belongs to one rank's thread.
#pragma once

#include <c10/core/ScalarType.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "counterflow/runtime/stage.h"

namespace counterflow::runtime {

/// The type in which a parameter's gradients are added up where this one is asked for, if any
/// (PipelineOptions::gradient_type).
at::ScalarType gradient_type(const at::Tensor& parameter, std::optional<at::ScalarType> asked);

class WideGradients {
 public:
  /// For those parameters of the stages that are of a smaller type. Throws InvalidConfig for a type that is
  /// none to add up in.
  WideGradients(at::ScalarType type, const std::vector<std::shared_ptr<Stage>>& stages);

  /// Parameters take gradients as they did before; the gradients that they have stay.
  ~WideGradients();
  WideGradients(const WideGradients&) = delete;
  WideGradients& operator=(const WideGradients&) = delete;

  /// Widens the gradients that came by other ways than autograd: of one of the stages, by its index, or of
  /// all.
  void widen(std::size_t stage) const;
  void widen() const;

 private:
  class Hook;

  const at::ScalarType type_;
  std::vector<Tensors> parameters_;                                           ///< [stage]
  std::vector<std::pair<at::Tensor, std::optional<at::ScalarType>>> hooked_;  ///< and what they took before
};

}  // namespace counterflow::runtime
