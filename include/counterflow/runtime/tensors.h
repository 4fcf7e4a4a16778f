// The tensors that stages take and give.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace counterflow::runtime {

/// What travels between stages. A tensor may be undefined: an output that is absent, a gradient that nobody
/// computed.
using Tensors = std::vector<at::Tensor>;

/// "Float[2, 8]", or "none" for an undefined one.
std::string describe(const at::Tensor& tensor);

/// "Float[2, 8], Long[2]".
std::string describe(const Tensors& tensors);

/// Whether both have the same types and shapes.
bool alike(const Tensors& a, const Tensors& b);

}  // namespace counterflow::runtime
