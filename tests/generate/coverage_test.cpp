// Every generator does all of the work exactly once, on the rank that holds the stage. Counted here by hand:
// verify() has no part in it.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "counterflow/generate.h"

namespace counterflow {
namespace {

/// How often each kind of pass of one stage and micro-batch occurs.
struct Count {
  int f = 0, b = 0, i = 0, w = 0;
};

void count(const Schedule& schedule, std::vector<Count>& counts) {
  counts.assign(static_cast<std::size_t>(schedule.num_stages()) * schedule.num_micro_batches(), {});
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    for (const Action& action : schedule.actions[rank]) {
      for (const Pass& pass : action.passes()) {
        ASSERT_EQ(schedule.placement.rank_of(pass.stage, pass.micro_batch), rank) << pass;
        Count& c = counts[pass.stage * schedule.num_micro_batches() + pass.micro_batch];
        ++(pass.kind == PassKind::kForward         ? c.f
           : pass.kind == PassKind::kBackward      ? c.b
           : pass.kind == PassKind::kInputGradient ? c.i
                                                   : c.w);
      }
    }
  }
}

class CoverageTest : public testing::TestWithParam<const Generator*> {};

TEST_P(CoverageTest, EachPassRunsOnce) {
  const Generator& generator = *GetParam();
  const int most_stages = generator.takes_stages_per_rank ? 3 : generator.stages_per_rank;
  int sizes = 0;
  std::vector<Count> counts;
  for (Size size{1, 1, 1}; size.ranks <= 10; ++size.ranks) {
    for (size.micro_batches = 1; size.micro_batches <= 3 * size.ranks + 2; ++size.micro_batches) {
      for (size.stages_per_rank = most_stages; size.stages_per_rank >= 1; --size.stages_per_rank) {
        if (!generator.takes_stages_per_rank && size.stages_per_rank != generator.stages_per_rank) continue;
        if (!generator.fits(size)) continue;
        ++sizes;
        count(generate(generator, size), counts);
        const bool once = std::all_of(counts.begin(), counts.end(), [](const Count& c) {
          return c.f == 1 && c.i == c.w && c.b + c.i == 1;
        });
        ASSERT_TRUE(once) << size.ranks << " ranks x " << size.micro_batches << " micro-batches x "
                          << size.stages_per_rank << " stages";
      }
    }
  }
  EXPECT_GE(sizes, 20);
}

std::string test_name(const testing::TestParamInfo<const Generator*>& generator) {
  std::string name(generator.param->name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Generators, CoverageTest, testing::ValuesIn(all_generators()), test_name);

}  // namespace
}  // namespace counterflow
