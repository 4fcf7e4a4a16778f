#include "counterflow/idle.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/recording.h"
#include "support/timelines.h"

namespace counterflow {
namespace {

using testing::timeline_of;

void expect_adds_up(const Timeline& run, const std::vector<IdleSplit>& splits) {
  const std::vector<RankSummary> summaries = summarize(run);
  ASSERT_EQ(splits.size(), summaries.size());
  for (std::size_t rank = 0; rank < splits.size(); ++rank) {
    EXPECT_EQ(splits[rank].busy, summaries[rank].busy);
    EXPECT_EQ(splits[rank].idle(), summaries[rank].idle) << "rank " << rank;
    for (const Time part :
         {splits[rank].waiting, splits[rank].transfer, splits[rank].launch_gap, splits[rank].imbalance})
      EXPECT_GE(part, 0);
  }
}

TEST(IdleTest, ARunThatWentAsPlannedOnlyWaitsAndTransfers) {
  for (const Generator* generator : all_generators()) {
    for (const Size& size : testing::sizes_to_draw(*generator)) {
      SCOPED_TRACE(std::string(generator->name) + " " + std::to_string(size.ranks) + "x" +
                   std::to_string(size.micro_batches));
      const Schedule schedule = generate(*generator, size);
      const CostModel costs(parse_uniform_cost("f=50,i=60,w=40,fb=130"), 7);
      const Timeline run = timeline_of(schedule, costs);
      const std::vector<IdleSplit> splits = split_idle(run, schedule);
      expect_adds_up(run, splits);
      for (const IdleSplit& split : splits) {
        EXPECT_EQ(split.launch_gap, 0);
        EXPECT_EQ(split.imbalance, 0);
      }
    }
  }
}

// 0F0 1F0 and back: rank 0 waits for stage 1, rank 1 for stage 0.
TEST(IdleTest, EachGapIsSplitAtSendingAndArrival) {
  const Schedule schedule = generate("gpipe", {2, 1});
  Timeline run = timeline_of(schedule, parse_uniform_cost("f=10,i=5,w=5"));
  // Sent at 10 and there at 13; 1F0 begins at 15. Its gradient sent at 35, there at 39; 0B0 begins at 40.
  run.ranks[1].bars[0] = {forward(1, 0), 15, 25};
  run.ranks[1].bars[1] = {backward(1, 0), 25, 35};
  run.ranks[0].bars[1] = {backward(0, 0), 40, 50};
  run.links[0].transfers[0].begin = 10, run.links[0].transfers[0].end = 13;
  run.links[1].transfers[0].begin = 35, run.links[1].transfers[0].end = 39;
  const std::vector<IdleSplit> splits = split_idle(run, schedule);
  expect_adds_up(run, splits);
  EXPECT_EQ(splits[0].transfer, 4);
  EXPECT_EQ(splits[0].launch_gap, 1);
  EXPECT_EQ(splits[0].waiting + splits[0].imbalance, 25);
  EXPECT_EQ(splits[1].transfer, 3);
  EXPECT_EQ(splits[1].launch_gap, 2);
  EXPECT_EQ(splits[1].waiting + splits[1].imbalance, 10 + 15);
}

TEST(IdleTest, ASlowStageIsImbalanceOnTheOtherRanks) {
  const Schedule schedule = generate("1f1b", {4, 16});
  CostModel costs;
  costs.stages.assign(4, {.f = 100, .i = 100, .w = 100});
  costs.stages[2] = {.f = 200, .i = 200, .w = 200};
  const Timeline run = timeline_of(schedule, costs);
  const std::vector<IdleSplit> splits = split_idle(run, schedule);
  expect_adds_up(run, splits);
  for (const int rank : {0, 1, 3}) {
    EXPECT_GT(splits[rank].imbalance, splits[rank].waiting) << rank;
    EXPECT_GT(splits[rank].imbalance, 16 * 200) << rank;
  }
  EXPECT_EQ(splits[2].imbalance, 0);
}

TEST(IdleTest, UniformlySlowerIsNoImbalance) {
  const Schedule schedule = generate("zb-h1", {4, 12});
  const Timeline run = timeline_of(schedule, parse_uniform_cost("f=1000,i=1000,w=1000"));
  for (const IdleSplit& split : split_idle(run, schedule)) EXPECT_EQ(split.imbalance, 0);
}

TEST(IdleTest, MeanCostsAreThoseOfTheRun) {
  const CostModel costs(parse_uniform_cost("f=50,i=60,w=40,fb=130"), 7);
  EXPECT_EQ(mean_costs(timeline_of(generate("dualpipe", {4, 8}), costs)), costs);
  CostModel halves = mean_costs(timeline_of(generate("1f1b", {4, 8}), costs));
  EXPECT_EQ(halves.stages[0].i, 50);  // B takes 100, and no I and W ran
  EXPECT_EQ(halves.stages[0].w, 50);
}

TEST(IdleTest, RefusesARunOfAnotherSchedule) {
  const Schedule schedule = generate("1f1b", {2, 4});
  const auto error_of = [&](const Timeline& run) -> std::string {
    try {
      split_idle(run, schedule);
    } catch (const InvalidConfig& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of(timeline_of(schedule, UniformCost{})), "");
  EXPECT_NE(error_of(timeline_of("1f1b", {2, 5})).find("laid out otherwise"), std::string::npos);
  EXPECT_NE(error_of(timeline_of("gpipe", {2, 4}))
                .find("rank 0: expected 0B0 as in the schedule, found 0F2 in the recording"),
            std::string::npos);
  Timeline cut = timeline_of(schedule, UniformCost{});
  cut.ranks[1].bars.pop_back();
  EXPECT_NE(error_of(cut).find("rank 1: expected 1B3 as in the schedule, found no more actions"),
            std::string::npos);
}

TEST(IdleTest, BackwardsMayHaveRunInTwo) {
  const Schedule schedule = generate("1f1b", {2, 2});
  Timeline run = timeline_of(schedule, UniformCost{});
  for (int rank = 0; rank < 2; ++rank) {
    std::vector<Bar> bars;
    for (const Bar& bar : run.ranks[rank].bars) {
      const Pass& pass = bar.action.passes()[0];
      if (pass.kind != PassKind::kBackward) {
        bars.push_back(bar);
        continue;
      }
      bars.push_back({input_gradient(pass.stage, pass.micro_batch), bar.begin, bar.begin + 1});
      bars.push_back({weight_gradient(pass.stage, pass.micro_batch), bar.begin + 1, bar.end});
    }
    run.ranks[rank].bars = bars;
  }
  connect(run);
  expect_adds_up(run, split_idle(run, schedule));
}

}  // namespace
}  // namespace counterflow
