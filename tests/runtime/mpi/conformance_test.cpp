// Pipelines whose ranks are processes, against the plain loop.
#include "../conformance.h"

#include <gtest/gtest.h>
#include <mpi.h>

#include <chrono>
#include <string>

#include "../faulty_transport.h"
#include "counterflow/generate.h"
#include "counterflow/runtime/module.h"

namespace counterflow::runtime {
namespace {

const World& world() {
  static const World mpi = worlds().front();
  return mpi;
}

int num_processes() {
  int number = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &number);
  return number;
}

class MpiConformanceTest : public GeneratorTest {};

TEST_P(MpiConformanceTest, TrainsAnMlpAsThePlainLoop) {
  for_sizes(2, 4, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    expect_conforms(schedule, *model, options_for(*model), world());
  });
}

TEST_P(MpiConformanceTest, DoesNotDependOnTimings) {
  for_sizes(4, 4, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    const Faults faults{.seed = 7, .max_delay = std::chrono::microseconds(300)};
    expect_conforms(schedule, *model, options_for(*model), late(world(), faults));
  });
}

TEST_P(MpiConformanceTest, TrainsATransformerWithTiesDropoutAndRecomputationAsThePlainLoop) {
  for_sizes(4, 4, [](const Schedule& schedule) {
    const auto model = models::gpt(schedule.num_stages(), 0.1);
    PipelineOptions options = options_for(*model);
    options.recompute = {1, schedule.num_stages() - 1};
    expect_conforms(schedule, *model, options, world());
  });
}

class MpiEightRanksTest : public MpiConformanceTest {};

TEST_P(MpiEightRanksTest, TrainsAsThePlainLoop) {
  if (num_processes() < 8) GTEST_SKIP() << "needs mpirun -n 8";
  for_sizes(8, 8, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    expect_conforms(schedule, *model, options_for(*model), world());
  });
}

INSTANTIATE_TEST_SUITE_P(Generators, MpiConformanceTest,
                         testing::ValuesIn(all_generators().begin(), all_generators().end()), name_of_tested);
INSTANTIATE_TEST_SUITE_P(Generators, MpiEightRanksTest,
                         testing::ValuesIn(all_generators().begin(), all_generators().end()), name_of_tested);

TEST(MpiReplicasTest, ReplicasAddTheirGradients) {
  // Two pipelines of two ranks each, with the same batch: as one of them.
  const Schedule schedule = generate("1f1b", {2, 4});
  const auto model = models::mlp(schedule.num_stages());
  world().run(4, [&](Transport& transport) {
    PipelineOptions options = options_for(*model);
    options.replicas = 2;
    Pipeline pipeline(
        schedule, transport, [&](int stage) { return make_stage(model->stage(stage)); }, options);
    Batch batch;
    for (int m = 0; m < 4; ++m) {
      batch.inputs.push_back(model->input(0, m));
      batch.targets.push_back(model->target(0, m));
    }
    const StepResult result = pipeline.step(batch);
    const std::vector<at::Tensor> gradients = pipeline.parameters();
    EXPECT_FALSE(gradients.empty());
    std::string mine;
    for (const at::Tensor& parameter : gradients)
      mine += std::to_string(parameter.grad().norm().item<double>()) + " ";
    const std::vector<std::string> all = transport.all_gather(mine);
    EXPECT_EQ(all[0], all[2]);
    EXPECT_EQ(all[1], all[3]);
    EXPECT_GT(pipeline.total_loss(result), 0);
  });
}

}  // namespace
}  // namespace counterflow::runtime
