#include "counterflow/fold.h"

#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"

namespace counterflow {
namespace {

TEST(FoldTest, DualPipeVUnfoldsToDualPipe) {
  for (int p = 1; p <= 6; ++p) {
    for (int m = 2 * p; m <= 2 * p + 5; ++m) {
      EXPECT_EQ(unfold(generate("dualpipe-v", {p, m}), "dualpipe"), generate("dualpipe", {2 * p, 2 * m}))
          << p << "x" << m;
      EXPECT_EQ(fold(generate("dualpipe", {2 * p, 2 * m}), "dualpipe-v"), generate("dualpipe-v", {p, m}))
          << p << "x" << m;
    }
  }
}

TEST(FoldTest, RefusesWhatIsNoV) {
  EXPECT_THROW(unfold(generate("dualpipe", {2, 4})), InvalidConfig);
}

TEST(FoldTest, RefusesHalvesThatAreNoMirrorImages) {
  Schedule schedule = generate("dualpipe", {4, 8});
  std::swap(schedule.actions[0][0], schedule.actions[0][1]);
  EXPECT_THROW(fold(schedule), InvalidConfig);
}

}  // namespace
}  // namespace counterflow
