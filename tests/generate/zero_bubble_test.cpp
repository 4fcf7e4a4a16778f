// The zero-bubble schedules of one stage a rank and of a V, as pictures.
#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "timeline.h"

namespace counterflow {
namespace {

TEST(ZbH1Test, FillsTheCoolDownWithWeightGradients) {
  EXPECT_EQ(timeline(generate("zb-h1", {3, 4})),
            "0F0 0F1 0F2         0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3\n"
            "    1F0 1F1     1I0 1F2 1I1 1W0 1F3 1I2 1W1 1I3 1W2 1W3\n"
            "        2F0 2I0 2F1 2I1 2F2 2I2 2W0 2F3 2I3 2W1 2W2 2W3\n");
}

TEST(ZbH1Test, RefusesFewerMicroBatchesThanRanks) {
  try {
    generate("zb-h1", {4, 3});
    FAIL();
  } catch (const InvalidConfig& error) {
    EXPECT_STREQ(error.what(),
                 "zb-h1: expected micro-batches at least ranks, found 4 ranks x 3 micro-batches; the nearest "
                 "that work: 3 ranks x 3 micro-batches, 4 ranks x 4 micro-batches");
  }
}

TEST(ZbH2Test, LeavesNoGapOnAnyRank) {
  EXPECT_EQ(timeline(generate("zb-h2", {3, 6})),
            "0F0 0F1 0F2 0F3 0F4 0I0 0W0 0F5 0I1 0W1 0I2 0W2 0I3 0W3 0I4 0W4 0I5 0W5\n"
            "    1F0 1F1 1F2 1I0 1F3 1I1 1F4 1I2 1F5 1I3 1W0 1I4 1W1 1I5 1W2 1W3 1W4 1W5\n"
            "        2F0 2I0 2F1 2I1 2F2 2I2 2F3 2I3 2F4 2I4 2F5 2I5 2W0 2W1 2W2 2W3 2W4 2W5\n");
}

TEST(ZbH2Test, HasNoIdleSpanWhereAllPassesTakeTheSameTime) {
  for (int ranks = 1; ranks <= 12; ++ranks) {
    for (int micro_batches = 2 * ranks; micro_batches <= 4 * ranks; ++micro_batches) {
      const Simulation run = simulate(generate("zb-h2", {ranks, micro_batches}), UniformCost{});
      for (const RankResult& rank : run.ranks) ASSERT_EQ(rank.span_idle, 0) << ranks << "x" << micro_batches;
    }
  }
}

TEST(ZbH2Test, NeedsTwoMicroBatchesARank) {
  EXPECT_THROW(generate("zb-h2", {4, 7}), InvalidConfig);
}

TEST(ZbvTest, LeavesNoGapOnAnyRank) {
  EXPECT_EQ(
      timeline(generate("zbv", {2, 4})),
      "0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0F3 0I0 0W0 3F2 3I2 3W2 0I1 0W1 3F3 3I3 3W3 0I2 0W2 0I3 0W3\n"
      "    1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1F3 1I1 1W1 2F3 2I2 2W2 1I2 2I3 1I3 1W2 2W3 "
      "1W3\n");
}

TEST(ZbvTest, HasNoIdleSpanWhereAllPassesTakeTheSameTime) {
  for (int ranks = 1; ranks <= 12; ++ranks) {
    for (int micro_batches = 2 * ranks; micro_batches <= 4 * ranks; ++micro_batches) {
      const Simulation run = simulate(generate("zbv", {ranks, micro_batches}), UniformCost{});
      for (const RankResult& rank : run.ranks) ASSERT_EQ(rank.span_idle, 0) << ranks << "x" << micro_batches;
    }
  }
}

}  // namespace
}  // namespace counterflow
