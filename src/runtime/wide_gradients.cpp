#include "wide_gradients.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

using torch::autograd::PostAccumulateGradHook;
using torch::autograd::impl::post_acc_grad_hooks;
using torch::autograd::impl::set_post_acc_grad_hooks;

void widen_gradient(const at::Tensor& parameter, at::ScalarType type) {
  at::Tensor& gradient = parameter.mutable_grad();
  if (gradient.defined() && gradient.scalar_type() != type) gradient = gradient.detach().to(type);
}

}  // namespace

at::ScalarType gradient_type(const at::Tensor& parameter, std::optional<at::ScalarType> asked) {
  const at::ScalarType own = parameter.scalar_type();
  if (!asked) return own;
  const bool is_smaller = at::isReducedFloatingType(own) || (own == at::kFloat && *asked == at::kDouble);
  return is_smaller ? *asked : own;
}

/// Runs after each gradient that autograd has added, and before the hook that was there.
class WideGradients::Hook : public PostAccumulateGradHook {
 public:
  Hook(const WideGradients* owner, std::unique_ptr<PostAccumulateGradHook> next)
      : owner_(owner), type_(owner->type_), next_(std::move(next)) {}

  void operator()(const at::Tensor& parameter) override {
    widen_gradient(parameter, type_);
    if (next_) (*next_)(parameter);
  }

  bool is_of(const WideGradients* owner) const { return owner_ == owner; }
  std::unique_ptr<PostAccumulateGradHook> take_next() { return std::move(next_); }

 private:
  const WideGradients* owner_;
  at::ScalarType type_;
  std::unique_ptr<PostAccumulateGradHook> next_;
};

WideGradients::WideGradients(at::ScalarType type, const std::vector<std::shared_ptr<Stage>>& stages)
    : type_(type) {
  if (type != at::kFloat && type != at::kDouble)
    throw InvalidConfig("gradients are to be added up in " + std::string(toString(type)) +
                        "; they can be in Float or Double (PipelineOptions::gradient_type)");
  for (const std::shared_ptr<Stage>& stage : stages) {
    Tensors& wide = parameters_.emplace_back();
    for (NamedTensor& parameter : stage->parameters()) {
      const at::Tensor& tensor = parameter.tensor;
      if (gradient_type(tensor, type) == tensor.scalar_type() || !tensor.is_leaf()) continue;
      wide.push_back(tensor);
      const auto same = [&](const auto& known) { return known.first.is_same(tensor); };
      if (std::any_of(hooked_.begin(), hooked_.end(), same)) continue;
      hooked_.emplace_back(tensor, tensor.grad_dtype());
      tensor.set_grad_dtype(std::nullopt);  // of any type: one that comes in a wider type stays so
      set_post_acc_grad_hooks(tensor, std::make_unique<Hook>(this, std::move(post_acc_grad_hooks(tensor))));
    }
  }
}

WideGradients::~WideGradients() {
  for (const auto& [parameter, type] : hooked_) {
    parameter.set_grad_dtype(type);
    auto* hook = dynamic_cast<Hook*>(post_acc_grad_hooks(parameter).get());
    // One that was added since then holds ours, which needs nothing of this object.
    if (hook && hook->is_of(this)) set_post_acc_grad_hooks(parameter, hook->take_next());
  }
}

void WideGradients::widen(std::size_t stage) const {
  for (const at::Tensor& parameter : parameters_[stage]) widen_gradient(parameter, type_);
}

void WideGradients::widen() const {
  for (std::size_t stage = 0; stage < parameters_.size(); ++stage) widen(stage);
}

}  // namespace counterflow::runtime
