#include "counterflow/frontier.h"

#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"
#include "instances.h"

namespace counterflow {
namespace {

void expect_frontier(const Frontier& frontier) {
  ASSERT_FALSE(frontier.points.empty());
  for (std::size_t i = 0; i < frontier.points.size(); ++i) {
    const FrontierPoint& point = frontier.points[i];
    EXPECT_TRUE(verify(point.result.schedule).ok());
    EXPECT_GE(point.result.makespan, point.result.lower_bound);
    const Simulation run = simulate(point.result.schedule, point.result.costs);
    EXPECT_EQ(point.activations, (Fraction{run.peak_activations(), point.result.parts}));
    if (i == 0) continue;
    const FrontierPoint& before = frontier.points[i - 1];
    EXPECT_LT(point.result.makespan, before.result.makespan);
    if (frontier.in_bytes) {
      EXPECT_GT(point.bytes, before.bytes);
    } else {
      EXPECT_GT(point.activations, before.activations);
    }
  }
}

SearchRequest request_of(int ranks, int micro_batches) {
  SearchRequest request;
  request.ranks = ranks;
  request.micro_batches = micro_batches;
  request.rounds = 1;
  request.seconds = 600;
  return request;
}

TEST(FrontierTest, LessMemoryTakesLonger) {
  SearchRequest request = request_of(4, 8);
  request.costs = CostModel(parse_uniform_cost("f=4,i=4,w=4,fb=11"));
  const Frontier frontier = search_frontier(request, 6);
  EXPECT_FALSE(frontier.in_bytes);
  EXPECT_GE(frontier.points.size(), 4U);
  EXPECT_EQ(frontier.points[0].activations, (Fraction{1, 1}));  // no schedule holds less
  expect_frontier(frontier);
}

TEST(FrontierTest, OfBytesCountsParametersAndBuffers) {
  SearchRequest request = request_of(4, 8);
  StageCost& stage = request.costs.stages[0];
  stage = {.f = 5, .i = 6, .w = 4};
  stage.activation_bytes = 100;
  stage.weight_store_bytes = 40;
  stage.output_bytes = 10;
  stage.parameter_bytes = 300;
  const Frontier frontier = search_frontier(request, 6);
  EXPECT_TRUE(frontier.in_bytes);
  EXPECT_GE(frontier.points.size(), 3U);
  EXPECT_GE(frontier.points[0].bytes, 400);
  expect_frontier(frontier);
}

TEST(FrontierTest, OfRandomRequests) {
  searching::Random random(21);
  for (int i = 0; i < 4; ++i) {
    SearchRequest request = testing::random_request(random, 4);
    request.rounds = 1;
    expect_frontier(search_frontier(request, 4));
  }
}

TEST(FrontierTest, KeepsTheRequestsOwnLimit) {
  SearchRequest request = request_of(4, 8);
  request.max_activations = 3;
  for (const FrontierPoint& point : search_frontier(request, 3).points)
    EXPECT_LE(point.activations, (Fraction{3, 1}));
}

TEST(FrontierTest, RefusesNoLimits) {
  EXPECT_THROW(search_frontier(request_of(2, 2), 0), InvalidConfig);
}

}  // namespace
}  // namespace counterflow
