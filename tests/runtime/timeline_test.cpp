// What is noted of steps, and costs from it.
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <chrono>
#include <thread>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/pipeline.h"
#include "counterflow/runtime/profile.h"
#include "counterflow/runtime/sequential.h"
#include "sleeping_stage.h"

namespace counterflow::runtime {
namespace {

Batch ones(int num_micro_batches) {
  Batch batch;
  batch.inputs.assign(num_micro_batches, {at::ones({1})});
  return batch;
}

const Loss kLoss = [](const Tensors& outputs, const Tensors&) { return outputs.at(0).sum(); };

TEST(TimelineTest, HoldsTheScheduleOfEveryRank) {
  for (const char* name : {"1f1b", "dualpipe", "zbv"}) {
    SCOPED_TRACE(name);
    const Schedule schedule = generate(name, {4, 8});
    run_local(4, [&](Transport& transport) {
      Pipeline pipeline(schedule, transport,
                        [](int stage) {
                          return std::make_shared<SleepingStage>(UniformCost{0, 0, 0, {}}, stage);
                        },
                        {.loss = kLoss});
      EXPECT_THROW(pipeline.timeline(), InvalidConfig);
    });
    run_local(4, [&](Transport& transport) {
      Pipeline pipeline(schedule, transport,
                        [](int stage) {
                          return std::make_shared<SleepingStage>(UniformCost{50, 50, 50, {}}, stage);
                        },
                        {.loss = kLoss});
      pipeline.record_timeline(true);
      pipeline.step(ones(8));
      pipeline.step(ones(8));
      pipeline.record_timeline(false);
      pipeline.step(ones(8));
      const Timeline timeline = pipeline.timeline();
      ASSERT_EQ(timeline.ranks.size(), 4U);
      EXPECT_EQ(timeline.unit_ns, 1);
      std::size_t num_transfers = 0;
      for (int rank = 0; rank < 4; ++rank) {
        std::vector<Action> actions;
        Time last = 0;
        for (const Bar& bar : timeline.ranks[rank].bars) {
          actions.push_back(bar.action);
          EXPECT_GE(bar.begin, last);
          EXPECT_GE(bar.duration(), 50'000 * static_cast<int>(bar.action.passes().size()));
          last = bar.end;
        }
        EXPECT_EQ(actions, schedule.actions[rank]);
      }
      for (const LinkTimeline& link : timeline.links) {
        for (const Transfer& transfer : link.transfers) {
          ++num_transfers;
          EXPECT_LE(transfer.begin, transfer.end);
          ASSERT_GE(transfer.sender, 0);
          ASSERT_GE(transfer.receiver, 0);
          EXPECT_LE(timeline.ranks[link.from].bars[transfer.sender].end, transfer.begin);
          EXPECT_GE(timeline.ranks[link.to].bars[transfer.receiver].begin, transfer.end);
        }
      }
      EXPECT_EQ(num_transfers, name == std::string("zbv") ? 2U * 8 * 6 : 2U * 8 * 3);
    });
  }
}

thread_local std::vector<std::string> opened;

std::unique_ptr<at::ObserverContext> note_range(const at::RecordFunction& function) {
  opened.emplace_back(function.name());
  return nullptr;
}

TEST(TimelineTest, EveryActionOpensARangeInTheOneSpelling) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  run_local(4, [&](Transport& transport) {
    Pipeline pipeline(schedule, transport,
                      [](int stage) {
                        return std::make_shared<SleepingStage>(UniformCost{0, 0, 0, {}}, stage);
                      },
                      {.loss = kLoss});
    const auto handle = at::addThreadLocalCallback(
        at::RecordFunctionCallback(note_range).scopes({at::RecordScope::USER_SCOPE}));
    pipeline.step(ones(8));
    at::removeCallback(handle);
    std::vector<std::string> actions;
    for (const Action& action : schedule.actions[transport.rank()]) actions.push_back(to_string(action));
    EXPECT_EQ(opened, actions);
  });
}

TEST(TimelineTest, ProfileFindsWhatStagesTake) {
  const Schedule schedule = generate("1f1b", {2, 4});
  run_local(2, [&](Transport& transport) {
    Pipeline pipeline(
        schedule, transport,
        [](int stage) {
          return std::make_shared<SleepingStage>(UniformCost{2000 * (2 + stage), 1000, 9000, {}}, stage);
        },
        {.loss = kLoss});
    const CostModel costs = pipeline.profile(ones(4), 2);
    ASSERT_EQ(costs.stages.size(), 2U);
    for (int stage = 0; stage < 2; ++stage) {
      // Never less than the sleep; how much more is the machine's business.
      EXPECT_GE(costs.stages[stage].f, 2000 * (2 + stage));
      EXPECT_GE(costs.stages[stage].i, 1000);
      EXPECT_GE(costs.stages[stage].w, 9000);
    }
    EXPECT_EQ(costs.stages[0].output_bytes, 4);
    EXPECT_GT(simulate(schedule, costs).makespan, 0);
  });
}

TEST(TimelineTest, ProfileLeavesGradientsAlone) {
  run_local(2, [&](Transport& transport) {
    const torch::nn::Sequential model(torch::nn::Linear(1, 1), torch::nn::Linear(1, 1));
    Pipeline pipeline(generate("dualpipe", {2, 4}), transport, split(model, 2), {.loss = kLoss});
    for (const at::Tensor& parameter : pipeline.parameters())
      parameter.mutable_grad() = at::full(parameter.sizes(), 7);
    Batch batch;
    batch.inputs.assign(4, {at::ones({1, 1})});
    const CostModel costs = pipeline.profile(batch, 2);
    for (const at::Tensor& parameter : pipeline.parameters())
      EXPECT_TRUE(parameter.grad().equal(at::full(parameter.sizes(), 7)));
    EXPECT_EQ(costs.stages[0].parameter_bytes, 8);
    ASSERT_EQ(costs.overlaps.size(), 1U);
    EXPECT_TRUE(costs.overlaps.contains({1, 0}));
  });
}

TEST(ProfileTest, TakesMediansAndSplitsWhatIsNotSplit) {
  const Schedule schedule = generate("gpipe", {1, 3});
  Timeline step;
  step.placement = schedule.placement;
  step.unit_ns = 1000;
  step.ranks.resize(1);
  Time now = 0;
  const auto add = [&](const Action& action, Time time) {
    step.ranks[0].bars.push_back({action, now, now + time});
    now += time;
  };
  for (int m = 0; m < 3; ++m) add(forward(0, m), 10 * (m + 1));
  for (int m = 0; m < 3; ++m) add(backward(0, m), 31);
  Profile profile;
  EXPECT_EQ(profile.costs().stages.size(), 0U);
  profile.add(step);
  const CostModel costs = profile.costs();
  EXPECT_EQ(costs.stages.at(0).f, 20);
  EXPECT_EQ(costs.stages[0].i, 15);
  EXPECT_EQ(costs.stages[0].w, 16);
  add(input_gradient(0, 0), 7);
  add(weight_gradient(0, 0), 5);
  profile.add(step);
  EXPECT_EQ(profile.costs().stages.at(0).i, 7);
  EXPECT_EQ(profile.costs().stages[0].w, 5);
  Timeline nothing;
  nothing.placement = schedule.placement;
  Profile empty;
  empty.add(nothing);
  EXPECT_THROW(empty.costs(), InvalidConfig);
}

}  // namespace
}  // namespace counterflow::runtime
