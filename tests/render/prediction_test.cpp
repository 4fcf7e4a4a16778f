#include "counterflow/prediction.h"

#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/recording.h"

namespace counterflow {
namespace {

Timeline as_if_run(const Schedule& schedule, const CostModel& costs) {
  Timeline timeline = make_timeline(schedule, costs, simulate(schedule, costs));
  timeline.unit_ns = 1000;
  return timeline;
}

TEST(PredictionTest, FindsAPlanToBeWhatWasPredicted) {
  for (const Generator* generator : all_generators()) {
    SCOPED_TRACE(generator->name);
    const Schedule schedule = generate(*generator, {4, 8, generator->stages_per_rank});
    const CostModel costs(UniformCost{3, 2, 1, 4}, 1);
    const Prediction found = compare_with_prediction(schedule, costs, as_if_run(schedule, costs));
    EXPECT_EQ(found.step, found.predicted_step);
    EXPECT_DOUBLE_EQ(found.bubble(), simulate(schedule, costs).bubble_ratio());
    EXPECT_DOUBLE_EQ(found.predicted_bubble(), found.bubble());
    for (const RankPrediction& rank : found.ranks) {
      EXPECT_EQ(rank.busy, rank.predicted_busy);
      EXPECT_EQ(rank.idle, rank.predicted_idle);
      Time sum = rank.after_last;
      for (const RankPrediction::Wait& wait : rank.waits) {
        EXPECT_GE(wait.time, wait.longest_time);
        EXPECT_GT(wait.longest_time, 0);
        sum += wait.time;
      }
      EXPECT_EQ(sum, rank.idle);
      EXPECT_EQ(rank.between, 0);
    }
  }
}

TEST(PredictionTest, SaysWhatWasWaitedFor) {
  // rank 0: 0F0 0-10, 0B0 from 50; rank 1: 1F0 from 15 (5 late: nobody's fault), 1B0 20-30, there at 45.
  const Schedule schedule = generate("gpipe", {2, 1});
  Timeline step;
  step.placement = schedule.placement;
  step.unit_ns = 1'000'000;
  step.ranks.resize(2);
  step.ranks[0].bars = {{forward(0, 0), 0, 10}, {backward(0, 0), 50, 60}};
  step.ranks[1].bars = {{forward(1, 0), 15, 20}, {backward(1, 0), 20, 30}};
  step.links = {{0, 1, {{.pass = forward(0, 0), .begin = 10, .end = 10}}},
                {1, 0, {{.pass = backward(1, 0), .begin = 30, .end = 45}}}};
  connect(step);
  const CostModel costs(UniformCost{10'000, 5'000, 5'000, {}});
  const Prediction found = compare_with_prediction(schedule, costs, step);
  EXPECT_EQ(found.step, 60'000);
  EXPECT_EQ(found.predicted_step, 40'000);
  ASSERT_EQ(found.ranks[0].waits.size(), 1U);
  EXPECT_EQ(found.ranks[0].waits[0].rank, 1);
  EXPECT_EQ(found.ranks[0].waits[0].time, 35'000);
  EXPECT_EQ(found.ranks[0].waits[0].longest, backward(1, 0));
  EXPECT_EQ(found.ranks[0].between, 5'000);
  EXPECT_EQ(found.ranks[0].after_last, 0);
  ASSERT_EQ(found.ranks[1].waits.size(), 1U);
  EXPECT_EQ(found.ranks[1].waits[0].time, 10'000);
  EXPECT_EQ(found.ranks[1].between, 5'000);
  EXPECT_EQ(found.ranks[1].after_last, 30'000);
  EXPECT_EQ(
      format_prediction(found),
      "step: predicted 40.0 ms, measured 60.0 ms (+50.0 %); bubble: predicted 50.0 %, measured 70.8 %\n"
      "       predicted ms       measured ms\n"
      "rank    busy    idle      busy    idle  waited for\n"
      "   0    20.0    20.0      20.0    40.0  rank 1 35.0 (longest 1B0, 35.0), nobody 5.0, the end 0.0\n"
      "   1    20.0    20.0      15.0    45.0  rank 0 10.0 (longest 0F0, 10.0), nobody 5.0, the end "
      "30.0\n");
}

TEST(PredictionTest, RefusesWhatDoesNotFit) {
  const Schedule schedule = generate("gpipe", {2, 1});
  const CostModel costs;
  Timeline step = as_if_run(generate("gpipe", {3, 1}), costs);
  EXPECT_THROW(compare_with_prediction(schedule, costs, step), InvalidConfig);
  step = as_if_run(schedule, costs);
  step.unit_ns = 0;
  EXPECT_THROW(compare_with_prediction(schedule, costs, step), InvalidConfig);
}

}  // namespace
}  // namespace counterflow
