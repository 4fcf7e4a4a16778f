#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "timeline.h"

namespace counterflow {
namespace {

// Micro-batches 0 and 1 go down, 2 and 3 up.
TEST(ChimeraTest, RunsEachDirectionInTheOthersBubbles) {
  EXPECT_EQ(timeline(generate("chimera", {4, 4})),
            "0F0 0F1     3F2 3B2     3F3 3B3         0B0             0B1\n"
            "    1F0 2F2 1F1 2F3     2B2     1B0     2B3     1B1\n"
            "    1F2 2F0 1F3 2F1     2B0     1B2     2B1     1B3\n"
            "0F2 0F3     3F0 3B0     3F1 3B1         0B2             0B3\n");
}

// The published program emits 144 forwards here.
TEST(ChimeraTest, LosesNoWorkAtManyMicroBatches) {
  int forwards = 0;
  for (const auto& actions : generate("chimera", {8, 24}).actions) {
    for (const Action& action : actions) forwards += action.passes()[0].kind == PassKind::kForward ? 1 : 0;
  }
  EXPECT_EQ(forwards, 192);
}

TEST(ChimeraTest, SendsOneMoreDownWhereTheNumberIsOdd) {
  const Schedule schedule = generate("chimera", {6, 3});
  EXPECT_EQ(schedule.placement.direction(0).num_micro_batches, 2);
  EXPECT_EQ(schedule.placement.direction(1).num_micro_batches, 1);
  EXPECT_NO_THROW(simulate(schedule, UniformCost{}));
}

TEST(ChimeraTest, NamesItsConstraintAndTheNearestSizes) {
  try {
    generate("chimera", {6, 8});
    FAIL();
  } catch (const InvalidConfig& error) {
    EXPECT_STREQ(
        error.what(),
        "chimera: expected ranks even, micro-batches at least 2 and a multiple of ranks / 2, found 6 "
        "ranks x 8 micro-batches; the nearest that work: 6 ranks x 6 micro-batches, 4 ranks x 8 "
        "micro-batches, 6 ranks x 9 micro-batches, 8 ranks x 8 micro-batches");
  }
}

}  // namespace
}  // namespace counterflow
