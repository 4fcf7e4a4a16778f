// What goes into a step and what comes out: batches, weights, several tensors, evaluation, replicas.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/functional.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/types.h>

#include <mutex>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pieces.h"
#include "counterflow/runtime/pipeline.h"
#include "counterflow/runtime/sequential.h"
#include "models.h"

namespace counterflow::runtime {
namespace {

namespace nn = torch::nn;

at::Tensor mean_square(const at::Tensor& output, const at::Tensor& target) {
  return at::mse_loss(output, target);
}

/// Four layers in double, always the same.
nn::Sequential layers() {
  nn::Sequential model;
  for (int i = 0; i < 4; ++i) {
    nn::Linear layer(3, 3);
    const torch::NoGradGuard no_grad;
    layer->weight.copy_(torch::arange(9).view({3, 3}).mul(0.7 + i).sin());
    layer->bias.copy_(torch::arange(3).mul(0.3 + i).cos());
    model->push_back(layer);
    model->push_back(nn::Functional(torch::tanh));
  }
  model->to(torch::kDouble);
  return model;
}

at::Tensor rows(int count, double start) {
  return torch::arange(count * 3, torch::kDouble).add(start).mul(1.3).sin().view({count, 3});
}

/// Gradients of a plain run over the whole batch.
std::vector<at::Tensor> whole_gradients(const nn::Sequential& model, const at::Tensor& x,
                                        const at::Tensor& y) {
  nn::Sequential whole = model;
  whole->zero_grad();
  mean_square(whole->forward(x), y).backward();
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : whole->parameters()) gradients.push_back(parameter.grad().clone());
  return gradients;
}

/// Compares a rank's gradients with those of the whole model, which is split two modules a stage.
void expect_gradients(const Pipeline& pipeline, const std::vector<at::Tensor>& expected, double factor = 1) {
  for (const int stage : pipeline.stages()) {
    const std::vector<NamedTensor> parameters = pipeline.stage(stage).parameters();
    ASSERT_EQ(parameters.size(), 2U);
    for (int p = 0; p < 2; ++p) {
      const at::Tensor gradient = parameters[p].tensor.grad();
      ASSERT_TRUE(gradient.defined());
      EXPECT_LT((gradient - expected[2 * stage + p] * factor).abs().max().item<double>(), 1e-14);
    }
  }
}

TEST(BatchTest, MicroBatchesOfUnequalSizeGiveTheGradientOfTheWhole) {
  const at::Tensor x = rows(19, 0);
  const at::Tensor y = rows(19, 5);
  const std::vector<at::Tensor> expected = whole_gradients(layers(), x, y);
  const double loss = mean_square(layers()->forward(x), y).item<double>();
  for (const char* name : {"1f1b", "dualpipe", "zb-h1"}) {
    SCOPED_TRACE(name);
    run_local(4, [&](Transport& transport) {
      Pipeline pipeline(generate(name, {4, 8}), transport, split(layers(), 4),
                        {.loss = mean_square, .varying_shapes = true});
      const StepResult result = pipeline.step({x}, {y});
      expect_gradients(pipeline, expected);
      EXPECT_NEAR(pipeline.total_loss(result), loss, 1e-14);
    });
  }
}

/// The linear layers of layers(), all but the first behind a ReLU that writes in place.
nn::Sequential relu_in_place(int stage) {
  nn::Sequential part;
  if (stage > 0) part->push_back(nn::ReLU(nn::ReLUOptions().inplace(true)));
  part->push_back(layers()->ptr<nn::LinearImpl>(2 * stage));
  return part;
}

/// Each module of a stage a piece.
std::shared_ptr<Stage> in_pieces(const nn::Sequential& part) {
  std::vector<Piece> pieces;
  for (nn::AnyModule& module : *part.ptr())
    pieces.push_back({"module", Lane::kCompute,
                      [&module](const Tensors& in) { return Tensors{module.forward(in.at(0))}; }});
  return make_stage(std::move(pieces), part.ptr());
}

TEST(BatchTest, StagesMayBeginWithALayerThatWritesInPlace) {
  const at::Tensor x = rows(16, 0);
  const at::Tensor y = rows(16, 5);
  nn::Sequential whole;
  for (int stage = 0; stage < 4; ++stage) {
    const nn::Sequential part = relu_in_place(stage);
    for (const nn::AnyModule& module : *part) whole->push_back(module);
  }
  const std::vector<at::Tensor> expected = whole_gradients(whole, x, y);
  for (const char* name : {"1f1b", "zb-h1", "dualpipe"}) {
    for (const bool pieces : {false, true}) {
      SCOPED_TRACE(std::string(name) + (pieces ? " of pieces" : ""));
      run_local(4, [&](Transport& transport) {
        Pipeline pipeline(generate(name, {4, 8}), transport,
                          [&](int stage) {
                            const nn::Sequential part = relu_in_place(stage);
                            return pieces ? in_pieces(part) : make_stage(part);
                          },
                          {.loss = mean_square});
        pipeline.step({x}, {y});
        expect_gradients(pipeline, expected);
      });
    }
  }
}

TEST(BatchTest, AStageThatWritesToItsInputsIsNotRecomputed) {
  const auto step = [] {
    run_local(2, [](Transport& transport) {
      const auto doubling = [](int) {
        return make_stage(nn::Functional([](at::Tensor x) { return x.mul_(2); }));
      };
      Pipeline pipeline(generate("1f1b", {2, 4}), transport, doubling,
                        {.loss = mean_square, .recompute = {0}});
      pipeline.step({torch::ones({4, 3})}, {torch::ones({4, 3})});
    });
  };
  EXPECT_THAT(step, testing::ThrowsMessage<Error>(
                        testing::HasSubstr("0F0: this stage writes to its inputs in place")));
}

TEST(BatchTest, StepsAccumulate) {
  const at::Tensor x = rows(16, 0);
  const at::Tensor y = rows(16, 5);
  const std::vector<at::Tensor> expected = whole_gradients(layers(), x, y);
  run_local(4, [&](Transport& transport) {
    Pipeline pipeline(generate("dualpipe", {4, 8}), transport, split(layers(), 4), {.loss = mean_square});
    for (int step = 1; step <= 3; ++step) {
      pipeline.step({x}, {y});
      expect_gradients(pipeline, expected, step);
    }
    EXPECT_EQ(pipeline.num_steps(), 3);
  });
}

TEST(BatchTest, ReplicasGiveTheGradientOfAllTheirBatches) {
  const at::Tensor x = rows(16, 0);
  const at::Tensor y = rows(16, 5);
  const std::vector<at::Tensor> expected = whole_gradients(layers(), x, y);
  for (const char* name : {"1f1b", "dualpipe"}) {
    SCOPED_TRACE(name);
    run_local(8, [&](Transport& transport) {
      Pipeline pipeline(generate(name, {4, 8}), transport, split(layers(), 4),
                        {.loss = mean_square, .replicas = 2});
      const int begin = transport.rank() < 4 ? 0 : 8;
      const StepResult result = pipeline.step({x.slice(0, begin, begin + 8)}, {y.slice(0, begin, begin + 8)});
      expect_gradients(pipeline, expected);
      EXPECT_NEAR(pipeline.total_loss(result), mean_square(layers()->forward(x), y).item<double>(), 1e-14);
    });
  }
}

TEST(BatchTest, GradientNormIsTheModels) {
  nn::Sequential model = layers();
  const at::Tensor x = rows(16, 0);
  const at::Tensor y = rows(16, 5);
  whole_gradients(model, x, y);
  const double norm = nn::utils::clip_grad_norm_(model->parameters(), 0.01);
  std::vector<at::Tensor> expected;
  for (const at::Tensor& parameter : model->parameters()) expected.push_back(parameter.grad());
  run_local(4, [&](Transport& transport) {
    Pipeline pipeline(generate("dualpipe", {4, 8}), transport, split(layers(), 4), {.loss = mean_square});
    pipeline.step({x}, {y});
    EXPECT_NEAR(pipeline.clip_gradient_norm(0.01), norm, 1e-14);
    expect_gradients(pipeline, expected);
  });
}

TEST(BatchTest, TiedParametersCountOnceInTheNorm) {
  const auto model = models::gpt(4, 0);
  std::vector<double> norms;
  for (const char* name : {"gpipe", "dualpipe"}) {
    run_local(4, [&](Transport& transport) {
      PipelineOptions options{.loss = [&](const Tensors& outputs, const Tensors& targets) {
        return model->loss(outputs, targets);
      }};
      options.ties = {{{{0, "embedding"}, {3, "head"}}}};
      Pipeline pipeline(
          generate(name, {4, 8}), transport, [&](int stage) { return make_stage(model->stage(stage)); },
          options);
      Batch batch;
      for (int m = 0; m < 8; ++m) {
        batch.inputs.push_back(model->input(0, m));
        batch.targets.push_back(model->target(0, m));
      }
      pipeline.step(batch);
      const double norm = pipeline.clip_gradient_norm(1e9);
      if (transport.rank() == 0) norms.push_back(norm);
      double sum = 0;  // by hand, on a rank of GPipe that needs no one else: every rank has one stage
      for (const at::Tensor& parameter : pipeline.parameters())
        sum += std::pow(parameter.grad().norm().item<double>(), 2);
      if (name == std::string("dualpipe")) return;
      double all = 0;
      for (const std::string& part : transport.all_gather(std::to_string(transport.rank() == 3 ? 0 : sum)))
        all += std::stod(part);
      if (transport.rank() == 3) {
        for (const NamedTensor& parameter : pipeline.stage(3).parameters())
          if (parameter.name != "head") all += std::pow(parameter.tensor.grad().norm().item<double>(), 2);
        EXPECT_NEAR(norm, std::sqrt(all), 1e-5);
      }
    });
  }
  EXPECT_NEAR(norms.at(0), norms.at(1), 1e-13);
}

TEST(BatchTest, EvaluatesBetweenSteps) {
  const at::Tensor x = rows(16, 0);
  const at::Tensor y = rows(16, 5);
  const std::vector<at::Tensor> expected = whole_gradients(layers(), x, y);
  const at::Tensor output = layers()->forward(x).detach();
  for (const char* name : {"dualpipe", "dualpipe-v", "interleaved-1f1b"}) {
    SCOPED_TRACE(name);
    const Schedule schedule = generate(name, {name == std::string("dualpipe") ? 4 : 2, 8});
    run_local(schedule.num_ranks(), [&](Transport& transport) {
      Pipeline pipeline(schedule, transport, split(layers(), 4), {.loss = mean_square});
      const auto check = [&](const StepResult& result, bool with_loss) {
        for (int m = 0; m < 8; ++m) {
          EXPECT_EQ(!result.outputs[m].empty(), pipeline.takes_target(m));
          EXPECT_EQ(result.losses[m].defined(), with_loss && pipeline.takes_target(m));
          if (pipeline.takes_target(m)) {
            EXPECT_TRUE(result.outputs[m][0].allclose(output.slice(0, 2 * m, 2 * m + 2), 0, 1e-15));
            EXPECT_FALSE(result.outputs[m][0].requires_grad());
          }
        }
      };
      check(pipeline.evaluate({x}), false);
      pipeline.step({x}, {y});
      check(pipeline.evaluate({x}, {y}), true);
      expect_gradients(pipeline, expected);
      // Another size of micro-batches than in training.
      check(pipeline.evaluate({x}), false);
      EXPECT_EQ(pipeline.num_steps(), 1);
      pipeline.step({x}, {y});
      expect_gradients(pipeline, expected, 2);
    });
  }
}

TEST(BatchTest, EvaluationModeReachesModulesAndGoesBack) {
  run_local(2, [](Transport& transport) {
    nn::Sequential model(nn::Linear(3, 3), nn::Dropout(0.5), nn::BatchNorm1d(3), nn::Linear(3, 3));
    std::vector<bool> seen;
    model->push_back(nn::Functional([&](const at::Tensor& x) {
      seen.push_back(model[1]->is_training());
      EXPECT_FALSE(model[2]->is_training());
      return x;
    }));
    model[2]->eval();  // frozen by the user
    Pipeline pipeline(generate("gpipe", {2, 2}), transport, split(model, {1, 4}), {.loss = mean_square});
    const at::Tensor x = torch::ones({4, 3});
    pipeline.step({x}, {x});
    pipeline.evaluate({x});
    pipeline.step({x}, {x});
    if (transport.rank() == 1) {
      EXPECT_EQ(seen, (std::vector<bool>{true, true, false, false, true, true}));
    }
  });
}

TEST(BatchTest, KeepsTheOutputsOfAStepWhereAsked) {
  const at::Tensor x = rows(8, 0);
  run_local(2, [&](Transport& transport) {
    Pipeline pipeline(generate("1f1b", {2, 4}), transport, split(layers(), 2),
                      {.loss = mean_square, .keep_outputs = true});
    const StepResult result = pipeline.step({x}, {x});
    EXPECT_EQ(result.outputs[3].size(), transport.rank() == 1 ? 1U : 0U);
  });
}

/// Takes and gives tensors of all kinds: an activation, a mask that comes back, an index, one that is not
/// there on every other stage, and a weight of another shape each time.
Tensors mixed(int stage, const at::Tensor& weight, const Tensors& in) {
  const at::Tensor& x = in.at(0);
  const at::Tensor& scale = in.at(1);
  const at::Tensor& index = in.at(2);
  at::Tensor y = at::linear(x, weight).tanh() * scale;
  if (in.at(3).defined()) y = y + in[3].sum();
  y = at::cat({y, y.index_select(1, index)}, 1);  // two columns more
  const at::Tensor extra = stage % 2 == 0 ? y.slice(1, 0, 1).to(at::kFloat) : at::Tensor();
  return {y, scale + 0.1, index, extra, x.detach()};
}

TEST(BatchTest, StagesTakeAndGiveSeveralTensorsOfAllKinds) {
  constexpr int kStages = 4;
  const auto weight_of = [](int stage) {
    return torch::arange((3 + 2 * stage) * (3 + 2 * stage), torch::kDouble)
        .sin()
        .view({3 + 2 * stage, 3 + 2 * stage})
        .requires_grad_();
  };
  struct Module : nn::Module {
    Module(int number, at::Tensor values)
        : stage(number), weight(register_parameter("weight", std::move(values))) {}
    Tensors forward(const Tensors& in) { return mixed(stage, weight, in); }
    int stage;
    at::Tensor weight;
  };
  const auto input = [](int m) {
    return Tensors{rows(2 + m % 2, m), torch::full({2 + m % 2, 1}, 0.9, torch::kDouble),
                   torch::tensor({1, 0}), m % 3 ? torch::ones({m}, torch::kFloat) : at::Tensor()};
  };
  const Loss loss = [](const Tensors& outputs, const Tensors&) {
    at::Tensor sum = outputs.at(0).pow(2).sum() + outputs.at(1).sum();
    return outputs.at(3).defined() ? sum + outputs[3].sum() : sum;
  };
  std::vector<at::Tensor> weights;
  for (int stage = 0; stage < kStages; ++stage) weights.push_back(weight_of(stage));
  std::vector<at::Tensor> losses;
  for (int m = 0; m < 8; ++m) {
    Tensors values = input(m);
    for (int stage = 0; stage < kStages; ++stage) values = mixed(stage, weights[stage], values);
    losses.push_back(loss(values, {}));
    (losses.back() / 8).backward();
  }
  for (const char* name : {"1f1b", "zb-h1", "dualpipe", "zbv"}) {
    SCOPED_TRACE(name);
    const Schedule schedule = generate(name, {name == std::string("zbv") ? 2 : 4, 8});
    run_local(schedule.num_ranks(), [&](Transport& transport) {
      Pipeline pipeline(
          schedule, transport,
          [&](int stage) { return make_stage(std::make_shared<Module>(stage, weight_of(stage).detach())); },
          {.loss = loss, .recompute = {1}, .varying_shapes = true});
      Batch batch;
      for (int m = 0; m < 8; ++m) batch.inputs.push_back(input(m));
      const StepResult result = pipeline.step(batch);
      for (int m = 0; m < 8; ++m)
        if (result.losses[m].defined()) {
          EXPECT_TRUE(result.losses[m].equal(losses[m]));
        }
      for (const int stage : pipeline.stages()) {
        const at::Tensor gradient = pipeline.stage(stage).parameters().at(0).tensor.grad();
        EXPECT_LT((gradient - weights[stage].grad()).abs().max().item<double>(),
                  1e-12 * weights[stage].grad().abs().max().item<double>());
      }
    });
  }
}

TEST(BatchTest, CopiesStartEqualBuffersToo) {
  std::mutex mutex;
  std::map<int, std::vector<Tensors>> copies;
  run_local(4, [&](Transport& transport) {
    Pipeline pipeline(generate("dualpipe", {4, 8}), transport,
                      [&](int) {
                        nn::Sequential block(nn::Linear(3, 3), nn::BatchNorm1d(3));
                        block->named_buffers()["1.running_mean"].fill_(transport.rank());
                        return make_stage(block);
                      },
                      {.loss = mean_square});
    const std::lock_guard lock(mutex);
    for (const int stage : pipeline.stages()) {
      Tensors all;
      for (const NamedTensor& parameter : pipeline.stage(stage).parameters()) all.push_back(parameter.tensor);
      for (const NamedTensor& buffer : pipeline.stage(stage).buffers()) all.push_back(buffer.tensor);
      copies[stage].push_back(all);
    }
  });
  for (const auto& [stage, all] : copies) {
    ASSERT_EQ(all.size(), 2U);
    ASSERT_EQ(all[0].size(), 7U);
    for (std::size_t i = 0; i < all[0].size(); ++i) {
      EXPECT_TRUE(all[0][i].equal(all[1][i]));
      EXPECT_FALSE(all[0][i].is_same(all[1][i]));
    }
  }
}

TEST(BatchTest, CopiesKeepTheFirstOnesBuffers) {
  std::mutex mutex;
  std::map<int, Tensors> means;  // by rank, of stage 0
  const at::Tensor x = rows(16, 0).to(torch::kFloat);
  run_local(2, [&](Transport& transport) {
    nn::Sequential model(nn::BatchNorm1d(3), nn::Linear(3, 3));
    Pipeline pipeline(generate("dualpipe", {2, 4}), transport, split(model, 2), {.loss = mean_square});
    for (int step = 0; step < 2; ++step) pipeline.step({x}, {x});
    const std::lock_guard lock(mutex);
    for (const NamedTensor& buffer : pipeline.stage(0).buffers())
      means[transport.rank()].push_back(buffer.tensor.clone());
  });
  // The copy on rank 0 sees the first half of the micro-batches.
  nn::BatchNorm1d expected(3);
  for (int step = 0; step < 2; ++step)
    for (int m = 0; m < 2; ++m) expected(x.slice(0, 4 * m, 4 * m + 4));
  ASSERT_EQ(means[0].size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(means[0][i].equal(expected->buffers()[i])) << i;
    EXPECT_TRUE(means[1][i].equal(expected->buffers()[i])) << i;
  }
}

TEST(BatchTest, RecomputationCountsBatchNormsOnce) {
  std::vector<at::Tensor> means;
  for (const bool recompute : {false, true}) {
    run_local(2, [&](Transport& transport) {
      nn::Sequential model(nn::Linear(3, 3), nn::BatchNorm1d(3), nn::Linear(3, 3), nn::BatchNorm1d(3));
      const torch::NoGradGuard no_grad;
      for (const at::Tensor& parameter : model->parameters())
        parameter.copy_(torch::arange(parameter.numel()).sin().view(parameter.sizes()));
      PipelineOptions options{.loss = mean_square};
      if (recompute) options.recompute = {0, 1};
      Pipeline pipeline(generate("zb-h1", {2, 4}), transport, split(model, 2), options);
      const at::Tensor x = rows(16, 0).to(torch::kFloat);
      pipeline.step({x}, {x});
      if (transport.rank() == 0)
        for (const NamedTensor& buffer : pipeline.stage(0).buffers()) means.push_back(buffer.tensor);
    });
  }
  ASSERT_EQ(means.size(), 6U);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(means[i].equal(means[i + 3]));
  EXPECT_EQ(means[5].item<int>(), 4);  // batches tracked
}

TEST(BatchTest, DealSaysWhatItCannotDo) {
  EXPECT_THROW(deal({rows(3, 0)}, {}, 4), InvalidConfig);
  EXPECT_THROW(deal({rows(8, 0)}, {rows(7, 0)}, 4), InvalidConfig);
  EXPECT_THROW(deal({torch::tensor(1.0)}, {}, 1), InvalidConfig);
  const Batch batch = deal({rows(10, 0)}, {rows(10, 1)}, 4);
  EXPECT_EQ(batch.weights, (std::vector<double>{0.2, 0.3, 0.2, 0.3}));
  EXPECT_EQ(batch.inputs[1][0].size(0), 3);
  EXPECT_TRUE(deal({}, {}, 4).inputs.empty());
}

TEST(BatchTest, SplitSaysWhatDoesNotAddUp) {
  EXPECT_THROW(split(layers(), 9), InvalidConfig);
  EXPECT_THROW(split(layers(), {3, 4}), InvalidConfig);
  EXPECT_THROW(split(layers(), {8, 0}), InvalidConfig);
  EXPECT_EQ(split(layers(), {3, 5})(1)->parameters().at(0).name, "4.weight");
}

}  // namespace
}  // namespace counterflow::runtime
