// Weights in bf16 whose gradients are added up in fp32 (PipelineOptions::gradient_type).
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../gpu/on_device.h"
#include "conformance.h"
#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pieces.h"
#include "counterflow/runtime/pipeline.h"
#include "measure.h"
#include "models.h"
#include "wide_gradients.h"

namespace counterflow::runtime {
namespace {

class InBf16 : public models::OnDevice {
 public:
  explicit InBf16(const models::Model& model) : OnDevice(model, at::kCPU, at::kBFloat16), model_(model) {}
  std::vector<const char*> tied() const override { return model_.tied(); }

 private:
  const models::Model& model_;
};

/// Every I as a B, and no W.
std::vector<Action> with_whole_backwards(const std::vector<Action>& actions) {
  std::vector<Action> whole;
  for (const Action& action : actions) {
    const Pass& pass = action.passes().front();
    if (pass.kind == PassKind::kInputGradient)
      whole.emplace_back(backward(pass.stage, pass.micro_batch));
    else if (pass.kind != PassKind::kWeightGradient)
      whole.push_back(action);
  }
  return whole;
}

/// Every B that stands alone as an I and, an action later, a W.
std::vector<Action> with_split_backwards(const std::vector<Action>& actions) {
  std::vector<Action> split;
  std::vector<Action> due;
  for (const Action& action : actions) {
    const Pass& pass = action.passes().front();
    const bool is_whole = !action.is_overlap() && pass.kind == PassKind::kBackward;
    split.push_back(is_whole ? Action(input_gradient(pass.stage, pass.micro_batch)) : action);
    split.insert(split.end(), due.begin(), due.end());
    due.clear();
    if (is_whole) due.emplace_back(weight_gradient(pass.stage, pass.micro_batch));
  }
  split.insert(split.end(), due.begin(), due.end());
  return split;
}

/// A generator, and whether backwards are to be split.
class GradientTypeTest : public testing::TestWithParam<std::tuple<const char*, bool>> {
 protected:
  static void SetUpTestSuite() { at::set_num_threads(1); }

  static Schedule schedule(const Size& size) {
    Schedule schedule = generate(std::get<0>(GetParam()), size);
    for (std::vector<Action>& actions : schedule.actions)
      actions = std::get<1>(GetParam()) ? with_split_backwards(actions) : with_whole_backwards(actions);
    return schedule;
  }
};

std::string name_of(const testing::TestParamInfo<std::tuple<const char*, bool>>& tested) {
  return std::string(std::get<0>(tested.param)) + (std::get<1>(tested.param) ? "_split" : "_whole");
}

INSTANTIATE_TEST_SUITE_P(Schedules, GradientTypeTest,
                         testing::Combine(testing::Values("1f1b", "zbv", "dualpipe", "chimera"),
                                          testing::Bool()),
                         name_of);

PipelineOptions in_fp32(PipelineOptions options) {
  options.gradient_type = at::kFloat;
  return options;
}

TEST_P(GradientTypeTest, TrainsAsALoopThatAddsInFp32) {
  const Schedule tried = schedule({4, 8});
  const auto model = models::mlp(tried.num_stages());
  const InBf16 narrow(*model);
  expect_conforms(tried, narrow, in_fp32(options_for(narrow)), local_world());
}

TEST_P(GradientTypeTest, TrainsStagesOfPieces) {
  const Schedule tried = schedule({4, 8});
  const auto model = models::mlp(tried.num_stages());
  const InBf16 narrow(*model);
  expect_conforms(tried, narrow, in_fp32(options_for(narrow)), local_world(),
                  [](const std::shared_ptr<models::StageModule>& module) {
                    std::vector<Piece> pieces;
                    for (auto& forward : module->pieces())
                      pieces.push_back({std::to_string(pieces.size()), Lane::kCompute, std::move(forward)});
                    return make_stage(std::move(pieces), module);
                  });
}

TEST_P(GradientTypeTest, TrainsATransformerWithTiesAndRecomputation) {
  const Schedule tried = schedule({4, 8});
  const auto model = models::gpt(tried.num_stages(), 0.1);
  const InBf16 narrow(*model);
  PipelineOptions options = in_fp32(options_for(narrow));
  options.recompute = {1, tried.num_stages() - 1};
  expect_conforms(tried, narrow, options, local_world());
}

/// Of models::counter() in bf16: a micro-batch's gradient is 1 everywhere.
Batch ones(const models::Model& model, const Schedule& schedule) {
  Batch batch;
  for (int m = 0; m < schedule.num_micro_batches(); ++m) {
    batch.inputs.push_back(model.input(0, m));
    batch.targets.push_back(model.target(0, m));
  }
  batch.weights.assign(schedule.num_micro_batches(), 1);
  return batch;
}

void expect_filled(const at::Tensor& gradient, at::ScalarType type, double value) {
  ASSERT_TRUE(gradient.defined());
  EXPECT_EQ(gradient.scalar_type(), type);
  EXPECT_EQ(gradient.min().item<double>(), value);
  EXPECT_EQ(gradient.max().item<double>(), value);
}

// bf16 has eight bits: 256 + 1 is 256, and neither half of 602 is a number in it.
TEST_P(GradientTypeTest, CountsWhatBf16Loses) {
  const Schedule tried = schedule({2, 602});
  const auto model = models::counter(tried.num_stages());
  const InBf16 narrow(*model);
  for (const bool wide : {false, true}) {
    run_local(2, [&](Transport& transport) {
      PipelineOptions options = options_for(narrow);
      if (wide) options = in_fp32(options);
      Pipeline pipeline(
          tried, transport, [&](int stage) { return make_stage(narrow.stage(stage)); }, options);
      pipeline.step(ones(narrow, tried));
      const bool copied = tried.placement.ranks_of(0).size() > 1;
      for (const at::Tensor& parameter : pipeline.parameters()) {
        EXPECT_EQ(parameter.scalar_type(), at::kBFloat16);
        if (wide)
          expect_filled(parameter.grad(), at::kFloat, 602);
        else
          expect_filled(parameter.grad(), at::kBFloat16, copied ? 512 : 256);
      }
      if (!wide) return;
      pipeline.evaluate(ones(narrow, tried));
      pipeline.step(ones(narrow, tried));
      for (const at::Tensor& parameter : pipeline.parameters())
        expect_filled(parameter.grad(), at::kFloat, 1204);
    });
  }
}

/// 1F1B over two ranks and models::counter() in bf16.
struct TwoRanks {
  explicit TwoRanks(int micro_batches) : schedule(generate("1f1b", {2, micro_batches})) {}

  Pipeline pipeline(Transport& transport, const PipelineOptions& options) const {
    return {schedule, transport, [this](int stage) { return make_stage(model.stage(stage)); }, options};
  }
  Batch batch() const { return ones(model, schedule); }

  const Schedule schedule;
  const std::unique_ptr<models::Model> counter = models::counter(2);
  const InBf16 model{*counter};
};

TEST(GradientTypeTest, AddsTiesAndReplicasInFp32) {
  const TwoRanks two(301);
  PipelineOptions options = in_fp32(options_for(two.model));
  options.replicas = 2;
  options.ties = {{{{0, "weight"}, {1, "weight"}}}};
  run_local(4, [&](Transport& transport) {
    Pipeline pipeline = two.pipeline(transport, options);
    for (int step = 1; step <= 2; ++step) {
      pipeline.step(two.batch());
      expect_filled(pipeline.parameters().at(0).grad(), at::kFloat, step * 2 * 2 * 301);
    }
  });
}

TEST(GradientTypeTest, NormsAndProfilesKnowTheType) {
  const TwoRanks two(301);
  run_local(2, [&](Transport& transport) {
    Pipeline pipeline = two.pipeline(transport, in_fp32(options_for(two.model)));
    pipeline.step(two.batch());
    const at::Tensor parameter = pipeline.parameters().at(0);
    const std::int64_t size = parameter.numel();
    const CostModel costs = pipeline.profile(two.batch(), 1);
    EXPECT_EQ(costs.stages.at(0).parameter_bytes, 2 * size);
    EXPECT_EQ(costs.stages.at(1).gradient_bytes, 4 * size);
    expect_filled(parameter.grad(), at::kFloat, 301);

    const double norm = 301 * std::sqrt(2.0 * static_cast<double>(size));
    EXPECT_NEAR(pipeline.clip_gradient_norm(norm / 301), norm, 1e-6 * norm);
    EXPECT_EQ(parameter.grad().scalar_type(), at::kFloat);
    EXPECT_NEAR(parameter.grad().max().item<double>(), 1, 1e-6);
  });
}

TEST(GradientTypeTest, GradientsFromBeforeAreWidened) {
  const TwoRanks two(301);
  run_local(2, [&](Transport& transport) {
    Pipeline pipeline = two.pipeline(transport, in_fp32(options_for(two.model)));
    const at::Tensor parameter = pipeline.parameters().at(0);
    parameter.mutable_grad() = at::full_like(parameter, 256);
    pipeline.step(two.batch());
    expect_filled(parameter.grad(), at::kFloat, 557);
  });
}

/// Adds to the gradient by hand.
class HandMade : public Stage {
 public:
  Tensors forward(const Tensors& inputs) override { return {inputs.at(0) + weight_}; }
  std::unique_ptr<StageBackward> forward_with_backward(const Tensors& inputs, Tensors& outputs) override {
    const torch::NoGradGuard no_grad;
    outputs = forward(inputs);
    return std::make_unique<Backward>(*this);
  }
  std::vector<NamedTensor> parameters() const override { return {{"weight", weight_}}; }

 private:
  struct Backward : StageBackward {
    explicit Backward(HandMade& made) : stage(made) {}
    Tensors backward(const Tensors& gradients) override {
      const Tensors inputs = input_gradients(gradients);
      weight_gradients();
      return inputs;
    }
    Tensors input_gradients(const Tensors& gradients) override { return {kept = gradients.at(0)}; }
    void weight_gradients() override {
      at::Tensor& gradient = stage.weight_.mutable_grad();
      gradient = gradient.defined() ? gradient.add_(kept) : kept.clone();
    }
    HandMade& stage;
    at::Tensor kept;
  };

  const at::Tensor weight_ = torch::zeros({8}, torch::kBFloat16).requires_grad_();
};

TEST(GradientTypeTest, HoldsForStagesWithABackwardOfTheirOwn) {
  const TwoRanks two(301);
  for (const bool split : {false, true}) {
    Schedule schedule = two.schedule;
    if (split)
      for (std::vector<Action>& actions : schedule.actions) actions = with_split_backwards(actions);
    run_local(2, [&](Transport& transport) {
      Pipeline pipeline(
          schedule, transport, [](int) { return std::make_shared<HandMade>(); },
          in_fp32(options_for(two.model)));
      pipeline.step(two.batch());
      expect_filled(pipeline.parameters().at(0).grad(), at::kFloat, 301);
    });
  }
}

/// What a step on one rank holds at most, in bytes, in eight layers of weights of `size` × `size` in bf16.
std::int64_t most_held(std::int64_t size, bool split, std::optional<at::ScalarType> type) {
  std::int64_t most = 0;
  Schedule schedule = generate("gpipe", {1, 4});
  if (split)
    for (std::vector<Action>& actions : schedule.actions) actions = with_split_backwards(actions);
  run_local(1, [&](Transport& transport) {
    torch::nn::Sequential layers;
    for (int i = 0; i < 8; ++i)
      layers->push_back(torch::nn::Linear(torch::nn::LinearOptions(size, size).bias(false)));
    layers->to(at::kBFloat16);
    PipelineOptions options;
    options.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); };
    options.gradient_type = type;
    Pipeline pipeline(
        schedule, transport, [&](int) { return make_stage(layers); }, options);
    const at::Tensor x = torch::ones({4, size}, at::kBFloat16);
    const ByteCount bytes;
    pipeline.step({x}, {x});
    most = bytes.most();
  });
  return most;
}

// Beside the fp32 gradients, which take twice as much, no more than one parameter's micro-batch gradient, in
// bf16 and on its way in fp32.
TEST(GradientTypeTest, HoldsNarrowGradientsOneAtATime) {
  constexpr std::int64_t kSize = 128;
  constexpr std::int64_t kWeights = kSize * kSize;
  for (const bool split : {false, true}) {
    const std::int64_t narrow = most_held(kSize, split, std::nullopt);
    const std::int64_t wide = most_held(kSize, split, at::kFloat);
    EXPECT_GE(wide, 8 * kWeights * 4);
    EXPECT_LE(wide - narrow, 8 * kWeights * 2 + kWeights * (2 + 4)) << (split ? "split" : "whole");
  }
}

/// As a kernel that computes a weight gradient in fp32 does.
struct WideGradient : torch::autograd::Function<WideGradient> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) { return x.clone(); }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list gradients) {
    return {gradients[0].to(at::kFloat) + 1.0 / 1024};
  }
};

TEST(WideGradientsTest, KeepsWhatComesInFp32) {
  torch::nn::Linear layer(4, 4);
  layer->to(at::kBFloat16);
  const at::Tensor& weight = layer->weight;
  const WideGradients wide(at::kFloat, {make_stage(layer)});
  for (int i = 1; i <= 2; ++i) {
    WideGradient::apply(weight).sum().backward();
    expect_filled(weight.grad(), at::kFloat, i * (1 + 1.0 / 1024));
  }
}

struct Count : torch::autograd::PostAccumulateGradHook {
  explicit Count(int* count) : count_(count) {}
  void operator()(const at::Tensor&) override { ++*count_; }
  int* count_;
};

TEST(WideGradientsTest, LeavesParametersAsTheyWere) {
  torch::nn::Linear layer(4, 4);
  layer->to(at::kBFloat16);
  const at::Tensor& weight = layer->weight;
  int count = 0;
  torch::autograd::impl::set_post_acc_grad_hooks(weight, std::make_unique<Count>(&count));
  {
    const WideGradients wide(at::kFloat, {make_stage(layer), make_stage(layer)});
    weight.sum().backward();
    EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
    EXPECT_EQ(count, 1);
  }
  weight.mutable_grad().reset();
  weight.sum().backward();
  EXPECT_EQ(weight.grad().scalar_type(), at::kBFloat16);
  EXPECT_EQ(weight.grad_dtype(), at::kBFloat16);
  EXPECT_EQ(count, 2);
}

TEST(WideGradientsTest, IsOfSmallerParametersOnly) {
  const auto type = [](at::ScalarType parameter, std::optional<at::ScalarType> asked) {
    return gradient_type(torch::zeros({2}, parameter), asked);
  };
  EXPECT_EQ(type(at::kBFloat16, at::kFloat), at::kFloat);
  EXPECT_EQ(type(at::kHalf, at::kFloat), at::kFloat);
  EXPECT_EQ(type(at::kFloat, at::kFloat), at::kFloat);
  EXPECT_EQ(type(at::kDouble, at::kFloat), at::kDouble);
  EXPECT_EQ(type(at::kFloat, at::kDouble), at::kDouble);
  EXPECT_EQ(type(at::kComplexFloat, at::kFloat), at::kComplexFloat);
  EXPECT_EQ(type(at::kInt, at::kFloat), at::kInt);
  EXPECT_EQ(type(at::kBFloat16, std::nullopt), at::kBFloat16);
  EXPECT_THROW(WideGradients(at::kHalf, {}), InvalidConfig);
}

TEST(GradientTypeTest, RanksMustAgree) {
  const TwoRanks two(4);
  std::vector<std::string> errors(2);
  run_local(2, [&](Transport& transport) {
    PipelineOptions options = options_for(two.model);
    if (transport.rank() == 1) options = in_fp32(options);
    try {
      two.pipeline(transport, options);
    } catch (const Error& error) {
      errors[transport.rank()] = error.what();
    }
  });
  EXPECT_THAT(errors, testing::Each(testing::HasSubstr("gradient type")));
}

}  // namespace
}  // namespace counterflow::runtime
