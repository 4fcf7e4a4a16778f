#include "leaves.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <utility>

namespace counterflow::runtime {
namespace {

using torch::autograd::variable_list;

/// Gives gradients on.
class PassOn : public torch::autograd::Node {
 protected:
  variable_list apply(variable_list&& gradients) override { return std::move(gradients); }
};

}  // namespace

Tensors not_leaves(const Tensors& leaves) {
  Tensors all;
  all.reserve(leaves.size());
  for (const at::Tensor& leaf : leaves) {
    all.push_back(leaf);
    if (!leaf.defined() || !leaf.requires_grad()) continue;
    all.back() = leaf.detach();  // which shares the count of writes
    auto node = std::make_shared<PassOn>();
    node->set_next_edges({torch::autograd::impl::gradient_edge(leaf)});
    torch::autograd::create_gradient_edge(all.back(), std::move(node));
  }
  return all;
}

}  // namespace counterflow::runtime
