#include "fused_sums.h"

#include <ATen/ops/addmm.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/generated/Functions.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <typeinfo>
#include <unordered_set>
#include <utility>

namespace counterflow::runtime {
namespace {

namespace generated = torch::autograd::generated;
using torch::autograd::AccumulateGrad;
using torch::autograd::Edge;
using torch::autograd::Node;
using torch::autograd::variable_list;

thread_local bool fuses = false;

/// Adds what a product's weight gets from a micro-batch, as soon as the product's own gradient is there.
class AddProduct : public torch::autograd::FunctionPreHook {
 public:
  AddProduct(at::Tensor weight, at::Tensor input) : weight_(std::move(weight)), input_(std::move(input)) {}

  variable_list operator()(const variable_list& gradients) override {
    const c10::AutoGradMode no_grad(false);
    at::Tensor& sum = weight_.mutable_grad();
    const at::Tensor& gradient = gradients.at(0);
    if (!gradient.defined()) return gradients;
    if (sum.scalar_type() == input_.scalar_type())
      sum.addmm_(gradient.t(), input_);
    else
      at::addmm_outf(sum, gradient.t(), input_, sum.scalar_type(), 1, 1, sum);
    input_.reset();
    return gradients;
  }

 private:
  at::Tensor weight_;
  at::Tensor input_;
};

/// The parameter whose transpose goes in at an edge, or undefined.
at::Tensor weight_at(const Edge& edge) {
  auto* transpose = dynamic_cast<generated::TBackward0*>(edge.function.get());
  if (transpose == nullptr || !transpose->next_edge(0).is_valid()) return {};
  auto* sum = dynamic_cast<AccumulateGrad*>(transpose->next_edge(0).function.get());
  if (sum == nullptr || !transpose->pre_hooks().empty() || !transpose->tensor_pre_hooks().empty()) return {};
  return sum->tensor_pre_hooks().empty() && sum->pre_hooks().empty() ? sum->variable : at::Tensor();
}

bool can_add(const at::Tensor& weight, const at::Tensor& input) {
  const at::Tensor& sum = weight.grad();
  if (!sum.defined() || sum.requires_grad() || sum.layout() != at::kStrided || !sum.is_contiguous())
    return false;
  if (sum.scalar_type() == input.scalar_type())
    return torch::autograd::impl::post_acc_grad_hooks(weight) == nullptr;
  return sum.scalar_type() == at::kFloat && sum.is_cuda() && at::isReducedFloatingType(input.scalar_type());
}

/// Takes the weight off a product, if it can be added to by a hook.
void fuse(Node& product, std::size_t weight_edge, torch::autograd::SavedVariable& saved_input,
          const std::shared_ptr<Node>& shared) {
  Edge& edge = product.next_edges()[weight_edge];
  const at::Tensor weight = weight_at(edge);
  if (!weight.defined()) return;
  at::Tensor input = saved_input.unpack(shared);
  if (!input.defined() || input.dim() != 2 || !can_add(weight, input)) return;
  product.add_pre_hook(std::make_unique<AddProduct>(weight, std::move(input)));
  edge = {};
}

void fuse(const std::shared_ptr<Node>& node) {
  if (auto* mm = dynamic_cast<generated::MmBackward0*>(node.get()))
    fuse(*mm, 1, mm->self_, node);
  else if (auto* addmm = dynamic_cast<generated::AddmmBackward0*>(node.get());
           addmm != nullptr && addmm->alpha.equal(1) && addmm->beta.equal(1))
    fuse(*addmm, 2, addmm->mat1_, node);
}

}  // namespace

FusingSums::FusingSums(bool on) : before_(std::exchange(fuses, on)) {}

FusingSums::~FusingSums() {
  fuses = before_;
}

bool FusingSums::is_on() {
  return fuses;
}

void fuse_sums(const std::vector<Edge>& roots) {
  std::unordered_set<const Node*> known;
  std::vector<std::shared_ptr<Node>> found;
  const auto visit = [&](const Edge& edge) {
    if (edge.is_valid() && known.insert(edge.function.get()).second) found.push_back(edge.function);
  };
  for (const Edge& root : roots) visit(root);
  for (std::size_t i = 0; i < found.size(); ++i) {
    const std::shared_ptr<Node> node = found[i];
    fuse(node);
    for (const Edge& edge : node->next_edges()) visit(edge);
  }
}

}  // namespace counterflow::runtime
