// Gradients of weights added up inside the matrix products that make them (a GEMM with beta = 1), as
// Megatron-LM's gradient accumulation fusion has it: it saves writing, reading and adding a gradient of the
// weight's size for every micro-batch, and rounds once where otherwise the product is rounded and then the
// sum.
#pragma once

#include <torch/csrc/autograd/edge.h>

#include <vector>

namespace counterflow::runtime {

/// While this lives, graphs that the calling thread runs backward fuse sums.
class FusingSums {
 public:
  explicit FusingSums(bool on);
  ~FusingSums();
  FusingSums(const FusingSums&) = delete;
  FusingSums& operator=(const FusingSums&) = delete;

  static bool is_on();

 private:
  const bool before_;
};

/// Prepares a graph that is about to be run backward from `roots` and then dropped: in torch::linear() (mm
/// and addmm with a transposed parameter) the parameter's gradient is added to the one that is there, which
/// has to be of the product's type or, on a GPU, fp32. Leaves alone what has hooks, and parameters without a
/// gradient yet.
void fuse_sums(const std::vector<torch::autograd::Edge>& roots);

}  // namespace counterflow::runtime
