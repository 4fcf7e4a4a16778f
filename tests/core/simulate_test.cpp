#include "counterflow/simulate.h"

#include <gtest/gtest.h>

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

TEST(SimulateTest, CriticalPathIsGaplessWithoutTransferTimes) {
  const Simulation run = simulate(generate("dualpipe", {8, 20}), UniformCost{});
  Time reached = 0;
  for (const CriticalStep& step : run.critical_path) {
    EXPECT_EQ(step.start, reached);
    reached = step.end;
  }
  EXPECT_EQ(reached, run.makespan);
}

}  // namespace
}  // namespace counterflow
