// Pipelines whose ranks are processes, against the plain loop.
#include "../conformance.h"

#include <gtest/gtest.h>

#include "counterflow/generate.h"
#include "counterflow/runtime/module.h"

namespace counterflow::runtime {
namespace {

class MpiConformanceTest : public testing::TestWithParam<const char*> {
 protected:
  static Schedule schedule() { return generate(GetParam(), {4, 8}); }
};

TEST_P(MpiConformanceTest, TrainsAnMlpAsThePlainLoop) {
  const auto model = models::mlp(schedule().num_stages());
  expect_conforms(schedule(), *model, options_for(*model), worlds().front());
}

TEST_P(MpiConformanceTest, TrainsATransformerWithTiesDropoutAndRecomputationAsThePlainLoop) {
  const auto model = models::gpt(schedule().num_stages(), 0.1);
  PipelineOptions options = options_for(*model);
  options.recompute = {1};
  expect_conforms(schedule(), *model, options, worlds().front());
}

INSTANTIATE_TEST_SUITE_P(Generators, MpiConformanceTest,
                         testing::Values("dualpipe", "zbv", "1f1b", "interleaved-zero-bubble"),
                         [](const auto& tested) {
                           std::string name;
                           for (const char* c = tested.param; *c; ++c) name += *c == '-' ? '_' : *c;
                           return name;
                         });

TEST(MpiReplicasTest, ReplicasAddTheirGradients) {
  // Two pipelines of two ranks each, with the same batch: as one of them.
  const Schedule schedule = generate("1f1b", {2, 4});
  const auto model = models::mlp(schedule.num_stages());
  worlds().front().run(4, [&](Transport& transport) {
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
