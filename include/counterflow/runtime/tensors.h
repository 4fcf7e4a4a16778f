// The tensors that stages take and give.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace counterflow::runtime {

/// What travels between stages. A tensor may be undefined: an output that is absent, a gradient that nobody
/// computed.
using Tensors = std::vector<at::Tensor>;

}  // namespace counterflow::runtime
