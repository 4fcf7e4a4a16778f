// V-Half and V-Min, as pictures and against the bubbles and peaks of the paper's tables.
#include <gtest/gtest.h>

#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "timeline.h"

namespace counterflow {
namespace {

TEST(VHalfTest, GoesDownTheVAtHalfTheSpeed) {
  EXPECT_EQ(timeline(generate("v-half", {3, 4})),
            "0F0 0F1 0F2         5F0 5I0 5W0 5F1 5I1 5W1 0F3 0I0 0W0     5F2 5I2 5W2 0I1 0W1     5F3 5I3 0I2 "
            "5W3 0W2     0I3 0W3\n"
            "    1F0 1F1     4F0     4F1 4I0 4W0 1F2 1I0 4I1 1W0     4F2 4W1 1F3 1I1 4I2 1W1 4F3 4W2 1I2 4I3 "
            "1W2 4W3 1I3 1W3\n"
            "        2F0 3F0 2F1 3F1         3I0 2I0 3W0 2W0 2F2 3F2 3I1 2I1 3W1 2F3 2W1 3F3 3I2 2I2 3W2 2W2 "
            "3I3 2I3 3W3 2W3\n");
}

TEST(VMinTest, HoldsTwoMicroBatchesOnFourRanks) {
  EXPECT_EQ(
      timeline(generate("v-min", {4, 4})),
      "0F0 0F1 0F2                 7F0 7I0 7W0 7F1 7I1 7W1 0F3     0I0 0W0         7F2 7I2 0I1 7W2 0W1  "
      "   7F3 7I3 0I2 7W3 0W2             0I3 0W3\n"
      "    1F0 1F1             6F0     6F1 6I0 6W0 1F2 6I1 6W1 1I0 1F3 1W0     6F2     1I1 6I2 1W1 6W2 "
      "6F3     1I2 6I3 1W2 6W3         1I3 1W3\n"
      "        2F0 2F1     5F0     5F1         5I0 5W0 2F2 2I0 5I1 2W0 5W1 5F2 2F3 2I1 2W1     5I2 5F3 "
      "5W2 2I2 2W2     5I3 5W3     2I3 2W3\n"
      "            3F0 4F0 3F1 4F1                 4I0 3I0 4W0 3F2 3W0 4F2 4I1 3I1 4W1 3F3 3W1 4F3 4I2 "
      "3I2 4W2 3W2         4I3 3I3 4W3 3W3\n");
}

struct Case {
  const char* generator;
  Time makespan;
  int peak;
};

// The less a V holds, the longer it takes.
TEST(ControllableMemoryTest, TradesMemoryForTime) {
  for (const Case& c : {Case{"zbv", 51, 8}, Case{"v-half", 53, 6}, Case{"v-min", 59, 4}}) {
    const Simulation run = simulate(generate(c.generator, {4, 8}), UniformCost{});
    EXPECT_EQ(run.makespan, c.makespan) << c.generator;
    EXPECT_EQ(run.peak_activations(), c.peak) << c.generator;
  }
}

// The repeated block is kept in the middle: every further micro-batch takes as long as its six passes.
TEST(ControllableMemoryTest, TakesNoLongerForAMicroBatchThanItsPasses) {
  for (const char* name : {"v-half", "v-min"}) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      const Time shorter = simulate(generate(name, {ranks, 2 * ranks + 2}), UniformCost{}).makespan;
      const Time longer = simulate(generate(name, {ranks, 3 * ranks + 2}), UniformCost{}).makespan;
      EXPECT_EQ(longer - shorter, 6 * ranks) << name << " on " << ranks << " ranks";
    }
  }
}

}  // namespace
}  // namespace counterflow
