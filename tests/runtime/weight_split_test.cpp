#include "weight_split.h"

#include <gtest/gtest.h>
#include <torch/nn/functional/activation.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/modules/rnn.h>
#include <torch/nn/modules/transformerlayer.h>
#include <torch/types.h>

#include <functional>
#include <string>

#include "fused_sums.h"
#include "measure.h"

namespace counterflow::runtime {
namespace {

namespace nn = torch::nn;

/// A module with its forward, and what goes in.
struct Case {
  std::string name;
  std::shared_ptr<nn::Module> module;
  std::function<Tensors(const Tensors&)> forward;
  std::function<Tensors(int micro_batch)> inputs;
  int products = 0;  ///< matrix products of B: those of I and W
  int products_of_i = 0;
};

Tensors random_input(at::IntArrayRef sizes, int micro_batch) {
  at::manual_seed(100 + micro_batch);
  return {torch::randn(sizes)};
}

Tensors leaves(const Tensors& inputs) {
  Tensors all;
  for (const at::Tensor& input : inputs)
    all.push_back(input.is_floating_point() ? input.detach().clone().requires_grad_() : input);
  return all;
}

Tensors gradients_like(const Tensors& outputs, int micro_batch) {
  at::manual_seed(200 + micro_batch);
  Tensors all;
  for (const at::Tensor& output : outputs)
    all.push_back(output.defined() && output.requires_grad() ? torch::randn_like(output) : at::Tensor());
  return all;
}

constexpr int kMicroBatches = 3;

struct Result {
  std::vector<Tensors> input_gradients{kMicroBatches};
  Tensors parameter_gradients;
  int products_of_i = 0;
  int products_of_w = 0;
  int sums_in_products = 0;
};

/// All forwards, then all backwards, whole or split with I ahead of W.
Result run(const Case& tested, bool split) {
  Result result;
  tested.module->zero_grad();
  std::vector<std::unique_ptr<StageGraph>> graphs;
  std::vector<Tensors> gradients;
  for (int m = 0; m < kMicroBatches; ++m) {
    const Tensors inputs = leaves(tested.inputs(m));
    at::manual_seed(m);
    const Tensors outputs = tested.forward(inputs);
    gradients.push_back(gradients_like(outputs, m));
    graphs.push_back(std::make_unique<StageGraph>(inputs, outputs));
  }
  {
    const OperatorCount count;
    for (int m = 0; m < kMicroBatches; ++m)
      result.input_gradients[m] =
          split ? graphs[m]->input_gradients(gradients[m]) : graphs[m]->backward(gradients[m]);
    result.products_of_i = count.products();
    result.sums_in_products = count.of("aten::addmm_");
  }
  if (split) {
    const OperatorCount count;
    for (int m = 0; m < kMicroBatches; ++m) graphs[m]->weight_gradients();
    result.products_of_w = count.products();
    result.sums_in_products += count.of("aten::addmm_");
  }
  for (const at::Tensor& parameter : tested.module->parameters())
    result.parameter_gradients.push_back(parameter.grad().defined() ? parameter.grad().clone()
                                                                    : at::Tensor());
  return result;
}

bool same(const Tensors& a, const Tensors& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].defined() != b[i].defined()) return false;
    if (a[i].defined() && !a[i].equal(b[i])) return false;
  }
  return true;
}

void expect_split(const Case& tested) {
  SCOPED_TRACE(tested.name);
  const Result whole = run(tested, false);
  const Result split = run(tested, true);
  for (int m = 0; m < kMicroBatches; ++m)
    EXPECT_TRUE(same(split.input_gradients[m], whole.input_gradients[m])) << "inputs of " << m;
  EXPECT_TRUE(same(split.parameter_gradients, whole.parameter_gradients));
  EXPECT_EQ(whole.products_of_i, kMicroBatches * tested.products);
  EXPECT_EQ(split.products_of_i, kMicroBatches * tested.products_of_i);
  EXPECT_EQ(split.products_of_w, kMicroBatches * (tested.products - tested.products_of_i));
}

/// Calls a module that takes and gives one tensor.
template <class Holder>
Case simple(const std::string& name, Holder module, std::vector<std::int64_t> sizes, int products, int of_i) {
  return {name,
          module.ptr(),
          [module](const Tensors& x) mutable { return Tensors{module->forward(x[0])}; },
          [sizes](int m) { return random_input(sizes, m); },
          products,
          of_i};
}

struct Block : nn::Module {
  explicit Block(int width, double dropout_rate = 0)
      : norm1(register_module("norm1", nn::LayerNorm(nn::LayerNormOptions({width})))),
        norm2(register_module("norm2", nn::LayerNorm(nn::LayerNormOptions({width})))),
        qkv(register_module("qkv", nn::Linear(width, 3 * width))),
        out(register_module("out", nn::Linear(width, width))),
        up(register_module("up", nn::Linear(width, 4 * width))),
        down(register_module("down", nn::Linear(4 * width, width))),
        dropout(dropout_rate) {}

  at::Tensor forward(const at::Tensor& x) {
    const auto parts = qkv(norm1(x)).view({x.size(0), x.size(1), 3, 2, -1}).permute({2, 0, 3, 1, 4});
    const at::Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, 0, true);
    const at::Tensor y = x + torch::dropout(out(mixed.transpose(1, 2).reshape(x.sizes())), dropout, true);
    return y + torch::dropout(down(torch::gelu(up(norm2(y)))), dropout, true);
  }

  nn::LayerNorm norm1, norm2;
  nn::Linear qkv, out, up, down;
  double dropout;
};

Case block_case(const std::string& name, double dropout, int times) {
  const auto block = std::make_shared<Block>(16, dropout);
  return {name,
          block,
          [block, times](const Tensors& x) {
            at::Tensor value = x[0];
            for (int i = 0; i < times; ++i) value = block->forward(value);
            return Tensors{value};
          },
          [](int m) {
            return random_input({2, 4, 16}, m);
          },
          9 * times,
          5 * times};
}

TEST(WeightSplitTest, ComputesWhatBackwardComputesWithTheSameMatrixProducts) {
  at::manual_seed(1);
  expect_split(simple("mlp", nn::Sequential(nn::Linear(4, 8), nn::Tanh(), nn::Linear(8, 4)), {3, 4}, 4, 2));
  expect_split(block_case("block", 0, 1));
  expect_split(block_case("block with dropout", 0.3, 1));
  expect_split(block_case("the same block twice", 0.3, 2));
  expect_split(simple("convolutions",
                      nn::Sequential(nn::Conv2d(nn::Conv2dOptions(2, 3, 3)), nn::BatchNorm2d(3), nn::ReLU(),
                                     nn::Conv2d(nn::Conv2dOptions(3, 2, 3))),
                      {2, 2, 8, 8}, 4, 2));
  expect_split(
      simple("encoder layer",
             nn::TransformerEncoderLayer(nn::TransformerEncoderLayerOptions(8, 2).dim_feedforward(16)),
             {3, 2, 8}, 12, 8));
}

TEST(WeightSplitTest, AFirstStageHasNothingToDoInI) {
  at::manual_seed(1);
  nn::Sequential module(nn::Embedding(7, 4), nn::Linear(4, 4), nn::Tanh(), nn::Linear(4, 4));
  Case tested = simple("embedding", module, {}, 4, 0);
  tested.inputs = [](int m) { return Tensors{torch::arange(5).add(m).remainder(7)}; };
  expect_split(tested);
}

TEST(WeightSplitTest, RecurrentLayersAreNotComputedTwice) {
  at::manual_seed(1);
  nn::GRU gru(nn::GRUOptions(4, 4));
  expect_split({"gru", gru.ptr(),
                [gru](const Tensors& x) mutable { return Tensors{std::get<0>(gru->forward(x[0]))}; },
                [](int m) {
                  return random_input({2, 3, 4}, m);
                },
                5, 2});
  nn::LSTM lstm(nn::LSTMOptions(4, 4));
  expect_split({"lstm", lstm.ptr(),
                [lstm](const Tensors& x) mutable { return Tensors{std::get<0>(lstm->forward(x[0]))}; },
                [](int m) {
                  return random_input({2, 3, 4}, m);
                },
                1, 1});
}

TEST(WeightSplitTest, ALayerThatIsUsedThreeTimesGetsTheSumOfAll) {
  at::manual_seed(1);
  nn::Linear layer(4, 4);
  expect_split({"tied", layer.ptr(),
                [layer](const Tensors& x) mutable {
                  return Tensors{layer(torch::tanh(layer(torch::tanh(layer(x[0])))))};
                },
                [](int m) {
                  return random_input({3, 4}, m);
                },
                6, 3});
}

TEST(WeightSplitTest, ANormWhoseWeightIsUsedElsewhereTooIsSplit) {
  at::manual_seed(1);
  const auto module = std::make_shared<nn::Module>();
  const at::Tensor weight = module->register_parameter("weight", torch::ones({4}));
  expect_split({"shared norm", module,
                [weight](const Tensors& x) {
                  return Tensors{at::layer_norm(x[0] * weight, {4}, weight, {}) + weight};
                },
                [](int m) {
                  return random_input({3, 4}, m);
                },
                0, 0});
}

TEST(WeightSplitTest, ParametersMayPassThroughOperatorsOfTheirOwn) {
  at::manual_seed(1);
  const auto module = std::make_shared<nn::Module>();
  const at::Tensor v = module->register_parameter("v", torch::randn({4, 4}));
  const at::Tensor g = module->register_parameter("g", torch::randn({4, 1}));
  const at::Tensor u = module->register_parameter("u", torch::randn({4, 4}));
  expect_split({"weight norm and a product of parameters", module,
                [v, g, u](const Tensors& x) {
                  const at::Tensor weight = g * v / v.norm(2, 1, true);
                  return Tensors{torch::mm(torch::mm(x[0], weight), torch::mm(u, weight))};
                },
                [](int m) {
                  return random_input({3, 4}, m);
                },
                6, 2});
}

TEST(WeightSplitTest, TakesInputsAndOutputsOfAllKinds) {
  at::manual_seed(1);
  nn::Linear layer(4, 4);
  // Unused, integer and repeated inputs; outputs that are inputs, parameters, absent, repeated, or of no
  // graph.
  expect_split(
      {"odd ends", layer.ptr(),
       [layer](const Tensors& x) mutable {
         const at::Tensor y = layer(x[0]) + x[1].sum();
         return Tensors{y, x[0], y, layer->bias, at::Tensor(), x[3], y.detach(), y.view({-1}).sin()};
       },
       [](int m) {
         at::manual_seed(m);
         return Tensors{torch::randn({2, 4}), torch::randn({3}), torch::randn({3}).add(m), torch::arange(3)};
       },
       2, 1});
}

TEST(WeightSplitTest, WritesInPlaceThroughViews) {
  at::manual_seed(1);
  nn::Linear layer(4, 4);
  expect_split({"in place", layer.ptr(),
                [layer](const Tensors& x) mutable {
                  at::Tensor y = layer(x[0]);
                  y.select(0, 1).mul_(x[0].select(0, 0));
                  at::Tensor z = torch::zeros({4, 4}).add(0);
                  z.slice(0, 0, 2).copy_(y);
                  z.slice(0, 2, 4).copy_(layer->weight.slice(0, 0, 2));
                  at::Tensor output = layer(z);
                  return Tensors{output.relu_()};
                },
                [](int m) {
                  return random_input({2, 4}, m);
                },
                4, 2});
}

TEST(WeightSplitTest, HooksRunOnce) {
  at::manual_seed(1);
  nn::Sequential module(nn::Linear(4, 4), nn::LayerNorm(nn::LayerNormOptions({4})), nn::Linear(4, 4));
  int calls = 0;
  for (const at::Tensor& parameter : module->parameters())
    parameter.register_hook([&calls](const at::Tensor& gradient) {
      ++calls;
      return gradient * 2;
    });
  const Case tested{"hooks",
                    module.ptr(),
                    [module](const Tensors& x) mutable {
                      at::Tensor y = module->forward(x[0]);
                      y.register_hook([](const at::Tensor& gradient) { return gradient * 3; });
                      y.retain_grad();
                      return Tensors{y.tanh()};
                    },
                    [](int m) {
                      return random_input({2, 4}, m);
                    },
                    4,
                    2};
  expect_split(tested);
  EXPECT_EQ(calls, 2 * kMicroBatches * 6);
}

TEST(WeightSplitTest, AbsentGradientsAreNoGradients) {
  at::manual_seed(1);
  nn::Linear a(4, 4);
  nn::Linear b(4, 4);
  const at::Tensor x = torch::randn({2, 4}).requires_grad_();
  StageGraph graph({x}, {a(x), b(x)});
  const Tensors inputs = graph.input_gradients({torch::ones({2, 4}), at::Tensor()});
  graph.weight_gradients();
  EXPECT_TRUE(inputs[0].equal(torch::ones({2, 4}).mm(a->weight)));
  EXPECT_TRUE(a->weight.grad().defined());
  EXPECT_FALSE(b->weight.grad().defined());

  StageGraph nothing({x}, {a(x)});
  EXPECT_FALSE(nothing.input_gradients({at::Tensor()})[0].defined());
  nothing.weight_gradients();
}

TEST(WeightSplitTest, IComputesNoWeightGradient) {
  at::manual_seed(1);
  nn::Sequential module(nn::Linear(4, 4), nn::Tanh(), nn::Linear(4, 4));
  const at::Tensor x = torch::randn({2, 4}).requires_grad_();
  StageGraph graph({x}, {module->forward(x)});
  graph.input_gradients({torch::ones({2, 4})});
  for (const at::Tensor& parameter : module->parameters()) EXPECT_FALSE(parameter.grad().defined());
  EXPECT_FALSE(x.grad().defined());
}

// WEIGHT and activations of a block in float: what W needs is each Linear's input and the gradient of its
// output.
TEST(WeightSplitTest, KeepsForWOnlyWhatWNeeds) {
  constexpr int kWidth = 64;
  constexpr int kRows = 4 * 32;
  const auto block = std::make_shared<Block>(kWidth);
  for (const at::Tensor& parameter : block->parameters())
    parameter.mutable_grad() = torch::zeros_like(parameter);
  const ByteCount bytes;
  {
    at::Tensor x = torch::randn({4, 32, kWidth});
    at::Tensor leaf = x.detach().requires_grad_();
    at::Tensor y = block->forward(leaf);
    StageGraph graph({leaf}, {y});
    at::Tensor gradient = torch::randn_like(y);
    for (at::Tensor* tensor : {&leaf, &y, &x}) tensor->reset();
    Tensors input_gradients = graph.input_gradients({gradient});
    gradient.reset();
    input_gradients.clear();
    // Inputs of qkv, out, up and down: 1 + 1 + 1 + 4 widths; gradients of their outputs: 3 + 1 + 4 + 1; the
    // two norms' gradients for W, a width of one row each and for both their parameters, are ready.
    constexpr std::int64_t kExpected =
        4 * (kRows * kWidth * (1 + 1 + 1 + 4 + 3 + 1 + 4 + 1) + 2 * 2 * kWidth);
    EXPECT_LE(bytes.held(), kExpected);
    EXPECT_GE(bytes.held(), kExpected - 4 * kRows * kWidth);  // the last two share the gradient that came in
    graph.weight_gradients();
    EXPECT_EQ(bytes.held(), 0);
  }
  EXPECT_EQ(bytes.held(), 0);
}

/// The gradients of `linears` weights are added up inside their products, from the second micro-batch on.
void expect_fused(const Case& tested, int linears) {
  SCOPED_TRACE(tested.name);
  const Result plain = run(tested, false);
  for (const bool split : {false, true}) {
    const FusingSums fusing(true);
    const Result fused = run(tested, split);
    EXPECT_EQ(fused.sums_in_products, (kMicroBatches - 1) * linears);
    EXPECT_EQ(fused.products_of_i + fused.products_of_w, kMicroBatches * tested.products);
    for (int m = 0; m < kMicroBatches; ++m)
      EXPECT_TRUE(same(fused.input_gradients[m], plain.input_gradients[m])) << "inputs of " << m;
    ASSERT_EQ(fused.parameter_gradients.size(), plain.parameter_gradients.size());
    for (std::size_t i = 0; i < fused.parameter_gradients.size(); ++i)
      EXPECT_TRUE(fused.parameter_gradients[i].allclose(plain.parameter_gradients[i], 1e-5, 1e-5)) << i;
  }
}

TEST(FusedSumsTest, LinearLayersAddInTheirProducts) {
  at::manual_seed(1);
  expect_fused(simple("mlp", nn::Sequential(nn::Linear(4, 8), nn::Tanh(), nn::Linear(8, 4)), {3, 4}, 4, 2),
               2);
  expect_fused(simple("without bias", nn::Sequential(nn::Linear(nn::LinearOptions(4, 4).bias(false))),
                      {2, 3, 4}, 2, 1),
               1);
  expect_fused(block_case("block", 0.3, 1), 4);
}

TEST(FusedSumsTest, AFirstStageDoesToo) {
  nn::Linear linear(4, 4);
  const Case tested{"first",
                    linear.ptr(),
                    [linear](const Tensors& x) mutable { return Tensors{linear->forward(x[0].detach())}; },
                    [](int m) {
                      return random_input({2, 4}, m);
                    },
                    1,
                    0};
  expect_fused(tested, 1);
}

TEST(FusedSumsTest, TheSumIsRoundedOnce) {
  nn::Linear linear(nn::LinearOptions(64, 32).bias(false));
  linear->to(at::kBFloat16);
  const Case tested = simple("bf16", linear, {16, 64}, 2, 1);
  Case in_bf16 = tested;
  in_bf16.inputs = [&](int m) { return Tensors{tested.inputs(m)[0].to(at::kBFloat16)}; };
  const Result plain = run(in_bf16, false);
  const FusingSums fusing(true);
  const Result fused = run(in_bf16, false);
  at::Tensor expected;
  for (int m = 0; m < kMicroBatches; ++m) {
    const at::Tensor x = in_bf16.inputs(m)[0];
    const at::Tensor y = linear->forward(x.detach());
    const at::Tensor g = gradients_like({y}, m)[0];
    expected = expected.defined() ? at::addmm(expected, g.t(), x) : g.t().mm(x);
  }
  EXPECT_TRUE(fused.parameter_gradients[0].equal(expected));
  EXPECT_FALSE(fused.parameter_gradients[0].equal(plain.parameter_gradients[0]));
}

TEST(FusedSumsTest, AParameterWithHooksIsLeftAlone) {
  at::manual_seed(1);
  nn::Linear linear(4, 4);
  int calls = 0;
  linear->weight.register_hook([&calls](const at::Tensor& gradient) {
    ++calls;
    return gradient * 2;
  });
  expect_fused(simple("hooks", linear, {3, 4}, 2, 1), 0);
  EXPECT_EQ(calls, 3 * kMicroBatches);
}

TEST(FusedSumsTest, ATiedWeightGetsAllItsGradients) {
  at::manual_seed(1);
  nn::Linear linear(nn::LinearOptions(4, 4).bias(false));
  expect_fused({"twice", linear.ptr(),
                [linear](const Tensors& x) mutable {
                  return Tensors{linear->forward(linear->forward(x[0]).tanh()) + linear->weight.sum()};
                },
                [](int m) {
                  return random_input({2, 4}, m);
                },
                4, 2},
               2);
}

}  // namespace
}  // namespace counterflow::runtime
