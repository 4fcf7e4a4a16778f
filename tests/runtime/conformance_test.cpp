// Pipelines against the plain loop, over every generator.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include <mutex>
#include <string>

#include "counterflow/generate.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pieces.h"
#include "counterflow/runtime/pipeline.h"
#include "counterflow/runtime/random.h"
#include "faulty_transport.h"
#include "models.h"
#include "plain_loop.h"

namespace counterflow::runtime {
namespace {

constexpr int kSteps = 3;
constexpr int kSeed = 42;

/// For every stage and every copy of it, on which rank ascending, the micro-batches in the order in which
/// their weight gradients are made.
std::vector<std::vector<std::vector<int>>> weight_orders(const Schedule& schedule) {
  std::vector<std::vector<std::vector<int>>> orders(schedule.num_stages());
  for (int stage = 0; stage < schedule.num_stages(); ++stage) {
    for (const auto& actions : schedule.actions) {
      std::vector<int> order;
      for (const Action& action : actions)
        for (const Pass& pass : action.passes())
          if (pass.stage == stage && releases_activation(pass.kind)) order.push_back(pass.micro_batch);
      if (!order.empty()) orders[stage].push_back(std::move(order));
    }
  }
  return orders;
}

Batch batch_of(const models::Model& model, const Pipeline& pipeline, int step) {
  Batch batch;
  const int num_micro_batches = pipeline.schedule().num_micro_batches();
  batch.inputs.resize(num_micro_batches);
  batch.targets.resize(num_micro_batches);
  for (int m = 0; m < num_micro_batches; ++m) {
    if (pipeline.takes_input(m)) batch.inputs[m] = model.input(step, m);
    if (pipeline.takes_target(m)) batch.targets[m] = model.target(step, m);
  }
  return batch;
}

PipelineOptions options_for(const models::Model& model) {
  PipelineOptions options;
  options.loss = [&model](const Tensors& outputs, const Tensors& targets) {
    return model.loss(outputs, targets);
  };
  options.seed = kSeed;
  options.timeout = std::chrono::seconds(30);
  if (const auto names = model.tied(); !names.empty())
    options.ties = {{{{0, names[0]}, {model.num_stages - 1, names[1]}}}};
  return options;
}

std::shared_ptr<Stage> stage_of_pieces(const std::shared_ptr<models::StageModule>& module) {
  std::vector<Piece> pieces;
  for (auto& forward : module->pieces())
    pieces.push_back({std::to_string(pieces.size()),
                      pieces.size() % 2 ? Lane::kCommunication : Lane::kCompute, std::move(forward)});
  return make_stage(std::move(pieces), module);
}

/// One rank's part: trains, and puts what it holds of the result into `run`.
void train(Transport& transport, const Schedule& schedule, const models::Model& model,
           PipelineOptions options, bool pieces, std::mutex& mutex, plain::Run& run) {
  Pipeline pipeline(
      schedule, transport,
      [&](int stage) {
        return pieces ? stage_of_pieces(model.stage(stage)) : make_stage(model.stage(stage));
      },
      std::move(options));
  torch::optim::AdamW optimizer(pipeline.parameters(), torch::optim::AdamWOptions(1e-2));
  const bool first_copy = transport.rank() < schedule.num_ranks();
  for (int step = 0; step < kSteps; ++step) {
    optimizer.zero_grad();
    const StepResult result = pipeline.step(batch_of(model, pipeline, step));
    const std::lock_guard lock(mutex);
    for (int m = 0; m < schedule.num_micro_batches(); ++m)
      if (result.losses[m].defined()) run.losses[step][m] = result.losses[m];
    for (const int stage : pipeline.stages()) {
      std::vector<at::Tensor> gradients;
      for (const NamedTensor& parameter : pipeline.stage(stage).parameters())
        gradients.push_back(parameter.tensor.grad().clone());
      // Copies must agree: whoever comes second is compared with the first.
      std::vector<at::Tensor>& known = run.gradients[stage];
      if (step == 0 && first_copy) {
        if (known.empty())
          known = gradients;
        else
          for (std::size_t p = 0; p < known.size(); ++p) EXPECT_TRUE(known[p].equal(gradients[p]));
      }
    }
    optimizer.step();
  }
  const std::lock_guard lock(mutex);
  for (const int stage : pipeline.stages()) {
    std::vector<at::Tensor>& known = run.parameters[stage];
    std::vector<at::Tensor> mine;
    for (const NamedTensor& parameter : pipeline.stage(stage).parameters()) mine.push_back(parameter.tensor);
    if (known.empty())
      known = mine;
    else
      for (std::size_t p = 0; p < known.size(); ++p) EXPECT_TRUE(known[p].equal(mine[p]));
  }
}

/// What the ranks run over, and how they make their stages.
struct Ranks {
  LocalOptions local{};
  Faults faults{};
  bool pieces = false;
};

plain::Run train(const Schedule& schedule, const models::Model& model, const PipelineOptions& options,
                 const Ranks& ranks) {
  plain::Run run;
  run.losses.assign(kSteps, std::vector<at::Tensor>(schedule.num_micro_batches()));
  run.gradients.resize(schedule.num_stages());
  run.parameters.resize(schedule.num_stages());
  std::mutex mutex;
  run_local(
      schedule.num_ranks(),
      [&](Transport& transport) {
        FaultyTransport late(transport, ranks.faults);
        train(late, schedule, model, options, ranks.pieces, mutex, run);
      },
      ranks.local);
  return run;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  const double norms = a.norm().item<double>() * b.norm().item<double>();
  return norms == 0 ? 0 : 1 - (a * b).sum().item<double>() / norms;
}

void expect_equal(const std::vector<std::vector<at::Tensor>>& found,
                  const std::vector<std::vector<at::Tensor>>& expected, const char* what) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i].size(), expected[i].size()) << what << " " << i;
    for (std::size_t j = 0; j < found[i].size(); ++j)
      EXPECT_TRUE(found[i][j].equal(expected[i][j])) << what << " " << i << " " << j;
  }
}

void expect_conforms(const Schedule& schedule, const models::Model& model, const PipelineOptions& options,
                     const Ranks& ranks = {}) {
  const plain::Seed seed = [](int step, int stage, int m) { return random_seed(kSeed, step, stage, m); };
  const int num_micro_batches = schedule.num_micro_batches();
  const plain::Run found = train(schedule, model, options, ranks);

  const plain::Run loop = plain::train(model, num_micro_batches, 1, seed);
  for (int m = 0; m < num_micro_batches; ++m) EXPECT_TRUE(found.losses[0][m].equal(loop.losses[0][m])) << m;
  for (int stage = 0; stage < schedule.num_stages(); ++stage)
    for (std::size_t p = 0; p < loop.gradients[stage].size(); ++p)
      EXPECT_LT(distance(found.gradients[stage].at(p), loop.gradients[stage][p]), 1e-13) << stage << " " << p;

  const plain::Run ordered = plain::train(model, num_micro_batches, kSteps, seed, weight_orders(schedule));
  expect_equal(found.losses, ordered.losses, "losses of step");
  expect_equal(found.gradients, ordered.gradients, "gradients of stage");
  expect_equal(found.parameters, ordered.parameters, "parameters of stage");
}

/// The sizes to try of a generator: those that fit.
std::vector<Size> sizes_of(const Generator& generator) {
  std::vector<Size> sizes;
  for (const Size tried : {Size{2, 4, 0}, Size{3, 6, 0}, Size{4, 8, 0}, Size{8, 20, 0}}) {
    Size size = tried;
    if (size.stages_per_rank == 0) size.stages_per_rank = generator.stages_per_rank;
    if (generator.fits(size)) sizes.push_back(size);
  }
  return sizes;
}

class ConformanceTest : public testing::TestWithParam<const Generator*> {
 protected:
  static void SetUpTestSuite() { at::set_num_threads(1); }

  template <class Check>
  void for_sizes(int min_ranks, int max_ranks, Check check) const {
    int checked = 0;
    for (const Size& size : sizes_of(*GetParam())) {
      if (size.ranks < min_ranks || size.ranks > max_ranks) continue;
      SCOPED_TRACE(std::to_string(size.ranks) + " x " + std::to_string(size.micro_batches));
      check(generate(*GetParam(), size));
      ++checked;
    }
    EXPECT_GT(checked, 0);
  }
};

TEST_P(ConformanceTest, TrainsAnMlpAsThePlainLoop) {
  for_sizes(2, 8, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    expect_conforms(schedule, *model, options_for(*model));
  });
}

TEST_P(ConformanceTest, NeedsNoBufferingOfSends) {
  for_sizes(2, 4, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    expect_conforms(schedule, *model, options_for(*model), {.local = {.rendezvous = true}});
  });
}

TEST_P(ConformanceTest, TrainsStagesOfPieces) {
  for_sizes(2, 4, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    expect_conforms(schedule, *model, options_for(*model), {.pieces = true});
    PipelineOptions options = options_for(*model);
    options.recompute = {0, schedule.num_stages() - 1};
    expect_conforms(schedule, *model, options, {.pieces = true});
  });
}

TEST_P(ConformanceTest, DoesNotDependOnTimings) {
  for_sizes(2, 4, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    const Faults late{.seed = 7, .max_delay = std::chrono::microseconds(300)};
    expect_conforms(schedule, *model, options_for(*model), {.faults = late});
  });
}

TEST_P(ConformanceTest, TrainsATransformerWithTiesAndDropoutAsThePlainLoop) {
  for_sizes(4, 4, [](const Schedule& schedule) {
    const auto model = models::gpt(schedule.num_stages(), 0.1);
    expect_conforms(schedule, *model, options_for(*model));
  });
}

TEST_P(ConformanceTest, TrainsWithRecomputationAsThePlainLoop) {
  for_sizes(4, 4, [](const Schedule& schedule) {
    const auto model = models::gpt(schedule.num_stages(), 0.1);
    PipelineOptions options = options_for(*model);
    for (int stage = 0; stage < schedule.num_stages(); stage += 3) options.recompute.push_back(stage);
    options.recompute.push_back(schedule.num_stages() - 1);
    expect_conforms(schedule, *model, options);
  });
}

INSTANTIATE_TEST_SUITE_P(Generators, ConformanceTest,
                         testing::ValuesIn(all_generators().begin(), all_generators().end()),
                         [](const auto& tested) {
                           std::string name;
                           for (const char c : tested.param->name) name += c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace counterflow::runtime
