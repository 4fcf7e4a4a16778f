#include "search/layers.h"

#include <gtest/gtest.h>

#include <optional>

#include "counterflow/error.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"
#include "instances.h"
#include "search/construct.h"
#include "search/evaluate.h"
#include "search/split.h"
#include "search/starts.h"
#include "support/sweep.h"

namespace counterflow::searching {
namespace {

CostModel random_layers(Random& random, int count) {
  CostModel model;
  for (int layer = 0; layer < count; ++layer) {
    StageCost& cost = model.layers.emplace_back();
    cost.f = 1 + random.below(8);
    cost.i = 1 + random.below(8);
    cost.w = 1 + random.below(8);
  }
  model.p2p = random.below(3);
  if (random.below(2) == 0) model.overlap = 6 + random.below(6);
  if (random.below(3) == 0) model.overlaps[{0, count - 1}] = 3 + random.below(6);
  return model;
}

/// Calls check(split) for each way to split layers into stages.
template <typename Check>
void for_each_split(int layers, int stages, Check&& check) {
  Split split(stages, 1);
  const auto fill = [&](const auto& self, int stage, int left) -> void {
    if (stage + 1 == stages) {
      split[stage] = left;
      check(split);
      return;
    }
    for (int count = 1; count <= left - (stages - 1 - stage); ++count) {
      split[stage] = count;
      self(self, stage + 1, left - count);
    }
  };
  fill(fill, 0, layers);
}

SearchRequest request_of(int ranks, int micro_batches, const CostModel& model) {
  SearchRequest request;
  request.ranks = ranks;
  request.micro_batches = micro_batches;
  request.costs = model;
  request.rounds = 4;
  request.seconds = 600;
  return request;
}

TEST(LayersTest, AddUpToStages) {
  CostModel model;
  model.layers = {{1, 2, 3, 10, 4, 7, 100, 1, 2}, {4, 5, 6, 20, 5, 8, 200, 3, 4}, {7, 8, 9}};
  model.p2p = 5;
  const CostModel costs = stages_of(model, Placement::loop(2, 1, 4), {2, 1});
  ASSERT_EQ(costs.stages.size(), 2U);
  EXPECT_EQ(costs.stages[0], (StageCost{5, 7, 9, 30, 9, 8, 300, 4, 6}));
  EXPECT_EQ(costs.stages[1], model.layers[2]);
  EXPECT_EQ(costs.p2p, 5);
  EXPECT_TRUE(costs.layers.empty());
  EXPECT_FALSE(costs.overlap);
}

// V on one rank: stage 0 of two layers and stage 1 of one.
TEST(LayersTest, OverlapInTheOrderInWhichTheyRun) {
  CostModel model;
  model.layers = {{10, 10, 10}, {20, 20, 20}, {30, 30, 30}};
  model.overlaps = {{{0, 2}, 65}, {{2, 1}, 66}, {{0, 1}, 49}, {{1, 0}, 1000}};
  const CostModel costs = stages_of(model, Placement::v(1, 4), {2, 1});
  EXPECT_EQ(costs.overlaps.at({0, 1}), 65 + 20);       // layer 1's forward alone
  EXPECT_EQ(costs.overlaps.at({1, 0}), 66 + 20);       // layer 0's backward alone
  EXPECT_EQ(costs.overlaps.at({0, 0}), 49 + 20 + 20);  // a pair that is too dear runs one after the other
  EXPECT_EQ(costs.overlaps.at({1, 1}), 90);
}

TEST(LayersTest, BoundHoldsForEverySplitAndSchedule) {
  Random random(31);
  int near = 0;
  for (int i = 0; i < 60; ++i) {
    const int ranks = 2 + random.below(2);
    const int layers = 2 * ranks + random.below(4);
    const CostModel model = random_layers(random, layers);
    const SearchRequest request = request_of(ranks, 2 * (1 + random.below(5)), model);
    for (Family& family : testing::families(request)) {
      const Time bound = layers_bound(model, family.placement);
      Time least = kNever;
      for_each_split(layers, family.placement.num_stages(), [&](const Split& split) {
        family.costs = stages_of(model, family.placement, split);
        const Problem problem = testing::problem_of(family);
        for (int tries = 0; tries < 3; ++tries) {
          const Order order = construct(problem, random_preferences(random), random);
          least = std::min(least, Evaluator(problem).evaluate(order));
        }
      });
      ASSERT_GE(least, bound) << family.name();
      near += least * 4 < bound * 5;
    }
  }
  EXPECT_GT(near, 60);
}

TEST(LayersTest, SearchFindsTheBestSplitOfSmallCases) {
  Random random(32);
  const int instances = testing::sweep(2, 6);
  for (int i = testing::sweep(1, 0); i < instances; ++i) {
    const CostModel model = random_layers(random, 6);
    SearchRequest request = request_of(2, 4, model);
    request.placements = {i % 2 == 0 ? PlacementKind::kOne : PlacementKind::kV};
    request.rounds = 40;
    const SearchResult result = search(request);
    request.rounds = 2;
    ASSERT_TRUE(verify(result.schedule).ok());
    EXPECT_EQ(result.makespan, (Fraction{simulate(result.schedule, result.costs).makespan, 1}));
    EXPECT_GE(result.makespan, result.lower_bound);
    std::optional<Fraction> best;
    for_each_split(6, result.schedule.placement.num_stages(), [&](const Split& split) {
      SearchRequest one = request;
      one.costs = stages_of(model, result.schedule.placement, split);
      const Fraction makespan = search(one).makespan;
      if (!best || makespan < *best) best = makespan;
    });
    EXPECT_EQ(result.makespan, *best) << i;
  }
}

// A loss as dear as three layers: its stage gets fewer.
TEST(LayersTest, UnevenEndsAreBalanced) {
  CostModel model;
  model.layers.assign(16, {10, 10, 10});
  model.layers.back() = {30, 30, 30};
  SearchRequest request = request_of(4, 12, model);
  request.placements = {PlacementKind::kOne};
  const SearchResult result = search(request);
  EXPECT_LE(result.families[0].layers[3], 3);
  EXPECT_LT(result.gap(), 0.1);
}

TEST(LayersTest, ChosenSplitFitsTheMemory) {
  CostModel model;
  model.layers.assign(8, {10, 10, 10, 1, 1, 1, 10});
  model.layers[0].parameter_bytes = 50;
  model.memory_bytes = 66;  // the embedding and one more layer
  SearchRequest request = request_of(2, 4, model);
  request.placements = {PlacementKind::kOne};
  EXPECT_THROW(search(request), InvalidConfig);
  model.memory_bytes = 90;
  request.costs = model;
  EXPECT_LE(search(request).families[0].layers[0], 4);
}

TEST(LayersTest, ThereAreEnough) {
  CostModel model;
  model.layers.resize(3);
  SearchRequest request = request_of(2, 4, model);
  const SearchResult result = search(request);
  for (const SearchFamily& family : result.families) {
    if (family.placement != PlacementKind::kV) continue;
    EXPECT_EQ(family.why_not, "needs 4 layers, and there are 3");
  }
}

}  // namespace
}  // namespace counterflow::searching
