#include "counterflow/simulate.h"

#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"

namespace counterflow {
namespace {

struct Case {
  const char* generator;
  Size size;
  const char* cost;
  Time p2p;
  Time makespan;
  Time bubble;
};

// The table of cases in the theory of DualPipe: ranks x micro-batches, costs, makespan, largest idle.
TEST(SimulateTest, DualPipeReachesItsPublishedMakespans) {
  for (const Case& c : {
           Case{"dualpipe", {2, 8}, "f=1,i=1,w=1,fb=3", 0, 24, 0},
           Case{"dualpipe", {4, 8}, "f=1,i=1,w=1,fb=3", 0, 26, 2},
           Case{"dualpipe", {4, 10}, "f=1,i=1,w=1,fb=3", 0, 32, 2},
           Case{"dualpipe", {8, 20}, "f=1,i=1,w=1,fb=3", 0, 66, 6},
           Case{"dualpipe", {8, 20}, "f=2,i=2,w=1,fb=5", 0, 115, 15},
           Case{"dualpipe", {8, 20}, "f=5,i=6,w=4,fb=15", 0, 336, 36},
           Case{"dualpipe", {8, 20}, "f=1,i=1,w=1,fb=2", 0, 52, 3},
           Case{"dualpipe", {8, 20}, "f=1,i=1,w=1,fb=3", 1, 94, 34},
           Case{"dualpipe-v", {3, 7}, "f=1,i=1,w=1,fb=2", 0, 37, 2},
       }) {
    SCOPED_TRACE(std::string(c.generator) + " " + std::to_string(c.size.ranks) + "x" +
                 std::to_string(c.size.micro_batches) + " " + c.cost);
    const Simulation run = simulate(generate(c.generator, c.size), {parse_uniform_cost(c.cost), c.p2p});
    EXPECT_EQ(run.makespan, c.makespan);
    EXPECT_EQ(run.bubble, c.bubble);
  }
}

/// One stage a rank, one micro-batch.
Schedule two_ranks() {
  Schedule schedule{"two", Placement::loop(2, 1, 1), {}, {}, {}};
  schedule.actions = {{forward(0, 0), backward(0, 0)},
                      {forward(1, 0), input_gradient(1, 0), weight_gradient(1, 0)}};
  return schedule;
}

TEST(SimulateTest, TransfersTakeLatencyAndBytesOverBandwidthRoundedUp) {
  CostModel costs;
  costs.stages = {{.f = 2, .i = 3, .w = 4, .output_bytes = 10},
                  {.f = 5, .i = 6, .w = 7, .output_bytes = 1000}};
  costs.link = Link{1, 4};             // 1 + ⌈10 / 4⌉ = 4
  costs.link_of[{1, 0}] = Link{2, 0};  // latency only
  const Simulation run = simulate(two_ranks(), costs);
  EXPECT_EQ(run.start[1], (std::vector<Time>{6, 11, 17}));
  EXPECT_EQ(run.end[1].back(), 24);
  EXPECT_EQ(run.start[0][1], 19);
  EXPECT_EQ(run.makespan, 26);
  ASSERT_EQ(run.channels.size(), 2);
  EXPECT_EQ(run.channels[0].busy, 4);
  EXPECT_EQ(run.channels[0].critical, 4);
  EXPECT_EQ(run.channels[1].critical, 2);
  EXPECT_EQ(run.ranks[0].critical + run.ranks[1].critical, 2 + 5 + 6 + 7);
}

TEST(SimulateTest, CountsBytesOfActivationsParametersAndReceives) {
  CostModel costs;
  costs.stages = {{.activation_bytes = 100,
                   .weight_store_bytes = 30,
                   .output_bytes = 7,
                   .parameter_bytes = 1000,
                   .gradient_bytes = 500,
                   .optimizer_bytes = 2000}};
  const Simulation run = simulate(two_ranks(), costs);
  EXPECT_EQ(run.ranks[0].peak_activation_bytes, 100);
  EXPECT_EQ(run.ranks[0].static_bytes, 3500);
  EXPECT_EQ(run.ranks[0].receive_bytes, 7);
  EXPECT_EQ(simulate(generate("dualpipe", {4, 8}), costs).ranks[0].static_bytes, 2 * 3500);
}

TEST(SimulateTest, RefusesWhatCannotRunAndCostsThatDoNotFit) {
  Schedule stuck = two_ranks();
  std::swap(stuck.actions[0][0], stuck.actions[0][1]);
  EXPECT_THROW(simulate(stuck, UniformCost{}), InvalidConfig);
  CostModel three;
  three.stages.resize(3);
  EXPECT_THROW(simulate(two_ranks(), three), InvalidConfig);
  CostModel endless;
  endless.stages[0].f = Time{1} << 61;
  EXPECT_THROW(simulate(two_ranks(), endless), InvalidConfig);
}

TEST(SimulateTest, CriticalPathIsGaplessWithoutTransferTimes) {
  const Simulation run = simulate(generate("dualpipe", {8, 20}), UniformCost{});
  Time reached = 0;
  for (const CriticalStep& step : run.critical_path) {
    EXPECT_EQ(step.start, reached);
    reached = step.end;
  }
  EXPECT_EQ(reached, run.makespan);
}

// A cost file may hold numbers up to 2^60.
TEST(SimulateTest, RefusesBytesWhoseSumCouldOverflow) {
  CostModel costs;
  for (const auto field :
       {&StageCost::activation_bytes, &StageCost::weight_store_bytes, &StageCost::output_bytes,
        &StageCost::parameter_bytes, &StageCost::gradient_bytes, &StageCost::optimizer_bytes}) {
    costs.stages[0] = {};
    costs.stages[0].*field = std::int64_t{1} << 60;
    EXPECT_THROW(simulate(generate("dualpipe", {4, 8}), costs), InvalidConfig);
    costs.stages[0].*field = std::int64_t{1} << 50;
    EXPECT_NO_THROW(simulate(generate("dualpipe", {4, 8}), costs));
  }
}

}  // namespace
}  // namespace counterflow
