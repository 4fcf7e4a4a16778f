#include <gtest/gtest.h>

#include <sstream>

#include "counterflow/error.h"
#include "counterflow/generate.h"

namespace counterflow {
namespace {

std::string rank_text(const Schedule& schedule, int rank) {
  std::string text;
  for (const Action& action : schedule.actions[rank]) text += (text.empty() ? "" : ",") + to_string(action);
  return text;
}

TEST(DualPipeTest, FollowsTheEightStepsOnTheFirstRank) {
  const Schedule schedule = generate("dualpipe", {4, 10});
  EXPECT_EQ(rank_text(schedule, 0),
            "0F0,0F1,0F2,3F5,3I5,3W5,3F6,(0F3;3B6)OVERLAP_F_B,(3F7;0B0)OVERLAP_F_B,(0F4;3B7)OVERLAP_F_B,"
            "(3F8;0B1)OVERLAP_F_B,3B8,(3F9;0B2)OVERLAP_F_B,3B9,0I3,0W3,0I4,0W4");
}

TEST(DualPipeTest, NamesItsConstraintAndTheNearestSizes) {
  try {
    generate("dualpipe", {4, 7});
    FAIL();
  } catch (const InvalidConfig& error) {
    EXPECT_STREQ(
        error.what(),
        "dualpipe: expected ranks even, micro-batches even and at least 2 x ranks, found 4 ranks x 7 "
        "micro-batches; the nearest that work: 4 ranks x 8 micro-batches");
  }
}

}  // namespace
}  // namespace counterflow
