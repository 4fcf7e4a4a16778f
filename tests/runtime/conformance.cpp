#include "conformance.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pieces.h"
#include "counterflow/runtime/random.h"
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

/// One rank's part: trains, and puts what it holds of the result into `run`.
void train(Transport& transport, const Schedule& schedule, const models::Model& model,
           PipelineOptions options, const MakeStage& make, std::mutex& mutex, plain::Run& run) {
  Pipeline pipeline(
      schedule, transport, [&](int stage) { return make(model.stage(stage)); }, std::move(options));
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

plain::Run train(const Schedule& schedule, const models::Model& model, const PipelineOptions& options,
                 const World& world, const MakeStage& make) {
  plain::Run run;
  run.losses.assign(kSteps, std::vector<at::Tensor>(schedule.num_micro_batches()));
  run.gradients.resize(schedule.num_stages());
  run.parameters.resize(schedule.num_stages());
  std::mutex mutex;
  world.run(schedule.num_ranks(),
            [&](Transport& transport) { train(transport, schedule, model, options, make, mutex, run); });
  return run;
}

double distance(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor a = found.to(at::kDouble);
  const at::Tensor b = expected.to(at::kDouble);
  const double norms = a.norm().item<double>() * b.norm().item<double>();
  return norms == 0 ? 0 : 1 - (a * b).sum().item<double>() / norms;
}

/// Of a world of processes each has only a part of what was found.
void expect_equal(const std::vector<std::vector<at::Tensor>>& found,
                  const std::vector<std::vector<at::Tensor>>& expected, const char* what,
                  const World& world) {
  ASSERT_EQ(found.size(), expected.size());
  int compared = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (world.processes && found[i].empty()) continue;
    ASSERT_EQ(found[i].size(), expected[i].size()) << what << " " << i;
    for (std::size_t j = 0; j < found[i].size(); ++j) {
      if (world.processes && !found[i][j].defined()) continue;
      EXPECT_TRUE(found[i][j].equal(expected[i][j])) << what << " " << i << " " << j;
      ++compared;
    }
  }
  EXPECT_TRUE(compared > 0 || (world.processes && std::string_view(what) == "losses of step"));
}

}  // namespace

std::shared_ptr<Stage> make_stage_of_pieces(const std::shared_ptr<models::StageModule>& module) {
  std::vector<Piece> pieces;
  for (auto& forward : module->pieces())
    pieces.push_back({std::to_string(pieces.size()),
                      pieces.size() % 2 ? Lane::kCommunication : Lane::kCompute, std::move(forward)});
  return make_stage(std::move(pieces), module);
}

std::shared_ptr<Stage> make_plain_stage(const std::shared_ptr<models::StageModule>& module) {
  return make_stage(module);
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

void expect_conforms(const Schedule& schedule, const models::Model& model, const PipelineOptions& options,
                     const World& world, const MakeStage& make) {
  const plain::Seed seed = [](int step, int stage, int m) { return random_seed(kSeed, step, stage, m); };
  const int num_micro_batches = schedule.num_micro_batches();
  const plain::Run found = train(schedule, model, options, world, make);
  if (world.processes && std::all_of(found.parameters.begin(), found.parameters.end(),
                                     [](const auto& of_stage) { return of_stage.empty(); }))
    return;  // this process stood by

  // Sums in a wider type are not the loop's, but near.
  const double tolerance = options.gradient_type ? 1e-4 : 1e-13;
  const plain::Run loop = plain::train(model, num_micro_batches, 1, seed);
  expect_equal({found.losses[0]}, loop.losses, "losses of step", world);
  for (int stage = 0; stage < schedule.num_stages(); ++stage) {
    if (world.processes && found.gradients[stage].empty()) continue;
    for (std::size_t p = 0; p < loop.gradients[stage].size(); ++p)
      EXPECT_LT(distance(found.gradients[stage].at(p), loop.gradients[stage][p]), tolerance)
          << stage << " " << p;
  }

  const plain::Run ordered =
      plain::train(model, num_micro_batches, kSteps, seed, weight_orders(schedule), options.gradient_type);
  expect_equal(found.losses, ordered.losses, "losses of step", world);
  expect_equal(found.gradients, ordered.gradients, "gradients of stage", world);
  expect_equal(found.parameters, ordered.parameters, "parameters of stage", world);
}

std::vector<Size> sizes_to_try(const Generator& generator) {
  std::vector<Size> sizes;
  for (const Size tried : {Size{2, 4, 0}, Size{3, 6, 0}, Size{4, 8, 0}, Size{8, 20, 0}}) {
    Size size = tried;
    if (size.stages_per_rank == 0) size.stages_per_rank = generator.stages_per_rank;
    if (generator.fits(size)) sizes.push_back(size);
  }
  return sizes;
}

std::string name_of_tested(const testing::TestParamInfo<const Generator*>& tested) {
  std::string name;
  for (const char c : tested.param->name) name += c == '-' ? '_' : c;
  return name;
}

void GeneratorTest::for_sizes(int min_ranks, int max_ranks,
                              const std::function<void(const Schedule&)>& check) {
  int checked = 0;
  for (const Size& size : sizes_to_try(*GetParam())) {
    if (size.ranks < min_ranks || size.ranks > max_ranks) continue;
    SCOPED_TRACE(std::to_string(size.ranks) + " x " + std::to_string(size.micro_batches));
    check(generate(*GetParam(), size));
    ++checked;
  }
  EXPECT_GT(checked, 0);
}

}  // namespace counterflow::runtime
