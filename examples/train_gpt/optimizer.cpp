#include "optimizer.h"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace train_gpt {
namespace {

constexpr double kMeanDecay = 0.9;
constexpr double kSquareDecay = 0.95;
constexpr double kEpsilon = 1e-8;
constexpr double kWeightDecay = 0.1;

}  // namespace

AdamW::AdamW(std::vector<NamedTensor> parameters) {
  const c10::NoGradGuard no_grad;
  groups_.resize(2);
  groups_[0].weight_decay = kWeightDecay;
  for (NamedTensor& parameter : parameters) {
    Group& group = groups_[parameter.tensor.dim() < 2 ? 1 : 0];
    group.means.push_back(at::zeros_like(parameter.tensor));
    group.squares.push_back(at::zeros_like(parameter.tensor));
    group.steps.push_back(at::zeros({}, parameter.tensor.options().requires_grad(false)));
    state_.push_back({"adamw.mean." + parameter.name, group.means.back()});
    state_.push_back({"adamw.square." + parameter.name, group.squares.back()});
    state_.push_back({"adamw.step." + parameter.name, group.steps.back()});
    group.parameters.push_back(std::move(parameter.tensor));
  }
}

void AdamW::step(double learning_rate) {
  const c10::NoGradGuard no_grad;
  for (Group& group : groups_) {
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& parameter : group.parameters) gradients.push_back(parameter.grad());
    if (gradients.empty()) continue;
    at::_foreach_add_(group.steps, 1);
    at::_fused_adamw_(group.parameters, gradients, group.means, group.squares, {}, group.steps, learning_rate,
                      kMeanDecay, kSquareDecay, group.weight_decay, kEpsilon, /*amsgrad=*/false,
                      /*maximize=*/false);
    for (at::Tensor& parameter : group.parameters) parameter.mutable_grad().reset();
  }
}

std::vector<NamedTensor> AdamW::state() const {
  return state_;
}

double learning_rate(double peak, std::int64_t step, std::int64_t num_steps) {
  constexpr double kLeast = 0.1;
  const auto warm_up = static_cast<double>(std::max<std::int64_t>(1, num_steps / 10));
  const auto at = static_cast<double>(step) + 1;
  if (at <= warm_up) return peak * at / warm_up;
  const double progress = (at - warm_up) / (static_cast<double>(num_steps) - warm_up);
  return peak * (kLeast + (1 - kLeast) * 0.5 * (1 + std::cos(std::numbers::pi * progress)));
}

}  // namespace train_gpt
