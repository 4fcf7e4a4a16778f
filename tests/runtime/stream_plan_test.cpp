#include "stream_plan.h"

#include <gtest/gtest.h>

#include <string>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "stream_trial.h"

namespace counterflow::runtime {
namespace {

std::int32_t stream_of(const std::vector<std::int32_t>& plan, const Schedule& schedule, const Pass& pass) {
  return plan.at(static_cast<std::size_t>(pass.stage) * schedule.num_micro_batches() + pass.micro_batch);
}

TEST(StreamPlanTest, PairsHaveTwoStreams) {
  for (const Generator* generator : all_generators()) {
    for (const Size& size :
         {Size{2, 8, generator->stages_per_rank}, Size{4, 12, generator->stages_per_rank}}) {
      if (!generator->fits(size)) continue;
      const Schedule schedule = generate(*generator, size);
      for (int number = 2; number <= 4; ++number) {
        for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
          const auto plan = assign_streams(schedule, rank, number);
          for (const Action& action : schedule.actions[rank]) {
            for (const Pass& pass : action.passes()) {
              EXPECT_GE(stream_of(plan, schedule, pass), 0) << schedule.name << " " << to_string(pass);
              EXPECT_LT(stream_of(plan, schedule, pass), number);
            }
            if (!action.is_overlap()) continue;
            EXPECT_NE(stream_of(plan, schedule, action.passes()[0]),
                      stream_of(plan, schedule, action.passes()[1]))
                << schedule.name << " " << to_string(action);
          }
        }
      }
    }
  }
}

TEST(StreamPlanTest, AForwardIsBesideTheBackwardThatFollows) {
  const Schedule schedule = parse("0F0,0F1,0B0,0F2,0B1,0F3,0B2,0B3\n");
  EXPECT_EQ(assign_streams(schedule, 0, 2), (std::vector<std::int32_t>{0, 1, 0, 1}));
}

TEST(StreamPlanTest, WhatIsOnOtherRanksHasNone) {
  const Schedule schedule = generate("1f1b", {2, 4});
  const auto plan = assign_streams(schedule, 1, 2);
  for (int m = 0; m < 4; ++m) {
    EXPECT_EQ(stream_of(plan, schedule, forward(0, m)), -1);
    EXPECT_GE(stream_of(plan, schedule, forward(1, m)), 0);
  }
}

TEST(StreamPlanTest, OneStreamIsForAll) {
  const Schedule schedule = generate("dualpipe-v", {1, 2});
  for (const std::int32_t stream : assign_streams(schedule, 0, 1)) EXPECT_EQ(stream, 0);
}

/// Goes through a trial in which steps take so long on one stream and on two. Returns what each step did.
std::string trial(double one, double two, int* streams) {
  StreamTrial trial;
  std::string done;
  while (!trial.is_over()) {
    done += trial.records() ? "record" : trial.counts() ? "time" : "run";
    done += " on " + std::to_string(trial.streams()) + ", ";
    if (trial.counts()) trial.note(trial.streams() == 1 ? one : two);
    if (trial.decides()) {
      EXPECT_EQ(trial.best(), (std::array<double, 2>{one, two}));
    }
    trial.next();
  }
  *streams = trial.streams();
  return done;
}

TEST(StreamTrialTest, TheFasterStays) {
  int streams = 0;
  const std::string first = "run on 1, run on 1, time on 1, time on 1, record on 2, time on 2, time on 2, ";
  EXPECT_EQ(trial(2, 1, &streams), first + "run on 2, ");
  EXPECT_EQ(streams, 2);
  EXPECT_EQ(trial(1, 2, &streams), first + "record on 1, ");
  EXPECT_EQ(streams, 1);
}

}  // namespace
}  // namespace counterflow::runtime
