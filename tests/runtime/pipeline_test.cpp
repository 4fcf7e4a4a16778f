#include "counterflow/runtime/pipeline.h"

#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <mutex>

#include "counterflow/generate.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/module.h"

namespace counterflow::runtime {
namespace {

constexpr int kRanks = 4;
constexpr int kMicroBatches = 8;

/// One stage of the model, the same whoever makes it.
torch::nn::Sequential make_block(int stage) {
  torch::nn::Sequential block(torch::nn::Linear(6, 6), torch::nn::Tanh());
  const torch::NoGradGuard no_grad;
  double value = 0.1 * (stage + 1);
  for (at::Tensor& parameter : block->parameters()) {
    at::Tensor flat = parameter.view({-1});
    for (int i = 0; i < flat.numel(); ++i) flat[i] = std::sin(value += 0.7);
  }
  block->to(torch::kDouble);
  return block;
}

at::Tensor mean_square(const at::Tensor& output, const at::Tensor& target) {
  return torch::nn::functional::mse_loss(output, target);
}

TEST(PipelineTest, DualPipeTrainsAsAPlainLoop) {
  const at::Tensor x = torch::arange(16 * 6, torch::kDouble).view({16, 6}).sin();
  const at::Tensor y = torch::arange(16 * 6, torch::kDouble).view({16, 6}).cos();

  std::vector<torch::nn::Sequential> blocks;
  for (int stage = 0; stage < kRanks; ++stage) blocks.push_back(make_block(stage));
  std::vector<at::Tensor> losses;
  for (int m = 0; m < kMicroBatches; ++m) {
    at::Tensor value = x.slice(0, 2 * m, 2 * m + 2);
    for (auto& block : blocks) value = block->forward(value);
    losses.push_back(mean_square(value, y.slice(0, 2 * m, 2 * m + 2)));
    (losses.back() / kMicroBatches).backward();
  }

  const Schedule schedule = generate("dualpipe", {kRanks, kMicroBatches});
  run_local(kRanks, [&](Transport& transport) {
    Pipeline pipeline(schedule, transport, [](int stage) { return make_stage(make_block(stage)); },
                      {.loss = mean_square});
    const StepResult result = pipeline.step({x}, {y});
    for (int m = 0; m < kMicroBatches; ++m) {
      EXPECT_EQ(result.losses[m].defined(), pipeline.takes_target(m));
      if (result.losses[m].defined()) {
        EXPECT_TRUE(result.losses[m].equal(losses[m])) << m;
      }
    }
    const std::vector<at::Tensor> parameters = pipeline.parameters();
    std::size_t index = 0;
    for (const int stage : pipeline.stages()) {
      for (const at::Tensor& expected : blocks[stage]->parameters()) {
        const at::Tensor& found = parameters.at(index++).grad();
        ASSERT_TRUE(found.defined());
        EXPECT_LT((found - expected.grad()).abs().max().item<double>(), 1e-15);
      }
    }
  });
}

}  // namespace
}  // namespace counterflow::runtime
