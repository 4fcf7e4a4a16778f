#include "plain_loop.h"

#include <ATen/Context.h>
#include <torch/optim/adamw.h>

namespace plain {
namespace {

using Stages = std::vector<std::shared_ptr<models::StageModule>>;

at::Tensor forward(const models::Model& model, const Stages& stages, const Seed& seed, int step, int m) {
  models::Tensors values = model.input(step, m);
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    if (seed) at::manual_seed(seed(step, static_cast<int>(stage), m));
    values = stages[stage]->forward(values);
  }
  return model.loss(values, model.target(step, m));
}

/// Both ends of a tie get the sum.
void add_tied(const models::Model& model, const Stages& stages) {
  const auto names = model.tied();
  if (names.empty()) return;
  at::Tensor first = stages.front()->named_parameters()[names[0]];
  at::Tensor last = stages.back()->named_parameters()[names[1]];
  const at::Tensor sum = first.grad() + last.grad();
  first.mutable_grad() = sum;
  last.mutable_grad() = sum.clone();
}

/// Steps with the gradients that `accumulate` leaves in the parameters; it returns the losses.
Run run(const models::Model& model, int num_steps,
        const std::function<std::vector<at::Tensor>(const Stages&, int step)>& accumulate) {
  const Stages stages = model.stages();
  std::vector<at::Tensor> all;
  for (const auto& stage : stages)
    for (const at::Tensor& parameter : stage->parameters()) all.push_back(parameter);
  torch::optim::AdamW optimizer(all, torch::optim::AdamWOptions(1e-2));
  Run result;
  for (int step = 0; step < num_steps; ++step) {
    optimizer.zero_grad();
    result.losses.push_back(accumulate(stages, step));
    add_tied(model, stages);
    if (step == 0) {
      for (const auto& stage : stages) {
        result.gradients.emplace_back();
        for (const at::Tensor& parameter : stage->parameters())
          result.gradients.back().push_back(parameter.grad().clone());
      }
    }
    optimizer.step();
  }
  for (const auto& stage : stages) result.parameters.push_back(stage->parameters());
  return result;
}

}  // namespace

Run train(const models::Model& model, int num_micro_batches, int num_steps, const Seed& seed) {
  return run(model, num_steps, [&](const Stages& stages, int step) {
    std::vector<at::Tensor> losses;
    for (int m = 0; m < num_micro_batches; ++m) {
      losses.push_back(forward(model, stages, seed, step, m));
      (losses.back() / num_micro_batches).backward();
    }
    return losses;
  });
}

Run train(const models::Model& model, int num_micro_batches, int num_steps, const Seed& seed,
          const std::vector<std::vector<std::vector<int>>>& copies,
          std::optional<at::ScalarType> gradient_type) {
  return run(model, num_steps, [&](const Stages& stages, int step) {
    std::vector<at::Tensor> losses;
    std::vector<std::vector<std::vector<at::Tensor>>> gradients;  // [micro-batch][stage][parameter]
    for (int m = 0; m < num_micro_batches; ++m) {
      losses.push_back(forward(model, stages, seed, step, m));
      (losses.back() * (1.0 / num_micro_batches)).backward();
      gradients.emplace_back();
      for (const auto& stage : stages) {
        gradients.back().emplace_back();
        for (const at::Tensor& parameter : stage->parameters()) {
          gradients.back().back().push_back(parameter.grad());
          parameter.mutable_grad() = at::Tensor();
        }
      }
    }
    for (std::size_t stage = 0; stage < stages.size(); ++stage) {
      const std::vector<at::Tensor> parameters = stages[stage]->parameters();
      for (std::size_t p = 0; p < parameters.size(); ++p) {
        at::Tensor total;
        for (const std::vector<int>& order : copies[stage]) {
          at::Tensor sum;
          for (const int m : order) {
            at::Tensor gradient = gradients[m][stage][p];
            if (gradient_type) gradient = gradient.to(*gradient_type);
            sum = sum.defined() ? sum + gradient : gradient;
          }
          total = total.defined() ? total + sum : sum;
        }
        parameters[p].mutable_grad() = total;
      }
    }
    return losses;
  });
}

}  // namespace plain
