// Where the autograd graph of a stage, or of a part of one, begins.
#pragma once

#include "counterflow/runtime/tensors.h"

namespace counterflow::runtime {

/// What to call a forward with in place of the leaves of its graph: the same values in the same memory, and
/// gradients go on to the leaves as they are. Torch lets nothing be written to a leaf in place; but a stage
/// may begin with a layer that does so (a ReLU in place), which in the whole model comes after another layer.
/// A write is noticed wherever it would be noticed there.
Tensors not_leaves(const Tensors& leaves);

}  // namespace counterflow::runtime
