// Wrong schedules, one a rule and then some, and what verify() says of each: the rule, where, and why.
#include <gtest/gtest.h>

#include <ostream>

#include "counterflow/verify.h"
#include "schedule_text.h"

namespace counterflow {
namespace {

struct Case {
  const char* name;
  Placement placement;
  std::vector<std::string> lines;
  Rule rule;
  int rank;
  int step;
  std::string message;
  Passes passes = Passes::kTraining;
  std::optional<int> receive_buffers{};
  std::optional<int> max_activations{};
};

void PrintTo(const Case& wrong, std::ostream* out) {
  *out << wrong.name;
}

const Placement kOne = Placement::loop(1, 1, 2);
const Placement kTwo = Placement::loop(2, 1, 2);

const std::vector<Case> kCases{
    {"StageThatThereIsNot",
     kOne,
     {"0F0,1F0,0B0,0F1,0B1"},
     Rule::kUnknownAction,
     0,
     1,
     "1F0 is not of this schedule: expected stages 0 to 0 and micro-batches 0 to 1"},
    {"MicroBatchThatThereIsNot",
     kOne,
     {"0F0,0B0,0F1,0B1,0F2"},
     Rule::kUnknownAction,
     0,
     4,
     "0F2 is not of this schedule: expected stages 0 to 0 and micro-batches 0 to 1"},
    {"OverlapOfAnInputGradient",
     kOne,
     {"0F0,(0F1;0I0)OVERLAP_F_B,0W0,0B1"},
     Rule::kUnknownAction,
     0,
     1,
     "an overlapped pair is an F and a B, found (0F1;0I0)OVERLAP_F_B"},
    {"BackwardAmongForwards",
     kOne,
     {"0F0,0B0,0F1"},
     Rule::kUnknownAction,
     0,
     1,
     "forwards only",
     Passes::kForward},
    {"StageOfTheOtherRank",
     kTwo,
     {"0F0,0F1,1F0,0B0,0B1", "1F1,1B0,1B1"},
     Rule::kWrongRank,
     0,
     2,
     "1F0 belongs on rank 1, found on rank 0"},
    {"MicroBatchOfTheOtherDirection",
     Placement::bidirectional(2, 2),
     {"0F0,0F1,1F1,1B1,0B0,0B1", "1F0,1B0"},
     Rule::kWrongRank,
     0,
     1,
     "0F1 belongs on rank 1, found on rank 0"},
    {"ForwardLeftOut",
     Placement::loop(2, 1, 1),
     {"0F0,0B0", "1B0"},
     Rule::kMissingAction,
     1,
     -1,
     "1F0 never runs: expected on rank 1"},
    {"WeightGradientLeftOut",
     kOne,
     {"0F0,0I0,0F1,0B1"},
     Rule::kMissingAction,
     0,
     -1,
     "0W0 never runs: expected on rank 0"},
    {"InputGradientLeftOut",
     kOne,
     {"0F0,0W0,0F1,0B1"},
     Rule::kMissingAction,
     0,
     -1,
     "0I0 never runs: expected on rank 0"},
    {"ForwardTwice", kOne, {"0F0,0F1,0F0,0B0,0B1"}, Rule::kDuplicateAction, 0, 2, "0F0 runs a second time"},
    {"BackwardTwiceOnceInAPair",
     kOne,
     {"0F0,0B0,(0F1;0B0)OVERLAP_F_B,0B1"},
     Rule::kDuplicateAction,
     0,
     2,
     "0B0 runs a second time"},
    {"FullBackwardBesideAWeightGradient",
     kOne,
     {"0F0,0B0,0F1,0B1,0W1"},
     Rule::kMixedBackward,
     0,
     4,
     "expected either 0B1 or 0I1 and 0W1, found both"},
    {"BackwardFirst", kOne, {"0B0,0F0,0F1,0B1"}, Rule::kBackwardBeforeForward, 0, 0, "0B0 comes before 0F0"},
    {"WeightGradientFirst",
     kOne,
     {"0F0,0W0,0I0,0F1,0B1"},
     Rule::kWeightBeforeInput,
     0,
     1,
     "0W0 comes before 0I0"},
    {"PairOfOneMicroBatch",
     Placement::v(1, 1),
     {"0F0,(1F0;1B0)OVERLAP_F_B,0B0"},
     Rule::kOverlapDependsOnItself,
     0,
     1,
     "(1F0;1B0)OVERLAP_F_B overlaps a forward with a backward that needs it"},
    {"PairOfOneMicroBatchAtTwoStages",
     Placement::v(1, 1),
     {"0F0,(1F0;0B0)OVERLAP_F_B,1B0"},
     Rule::kOverlapDependsOnItself,
     0,
     1,
     "both are of micro-batch 0"},
    {"TwoRanksInACircle",
     kTwo,
     {"0F0,0B0,0F1,0B1", "1F0,1F1,1B0,1B1"},
     Rule::kDeadlock,
     0,
     1,
     "rank 0 (at 0B0) waits for 1B0 from rank 1, which (at 1F1) waits for 0F1 from rank 0"},
    {"ThreeRanksInACircle",
     Placement::loop(3, 2, 1),
     {"0F0,3F0,0B0,3B0", "1F0,4F0,4B0,1B0", "2F0,5F0,5I0,2I0,2W0,5W0"},
     Rule::kDeadlock,
     0,
     2,
     "rank 0 (at 0B0) waits for 1B0 from rank 1, which (at 1B0) waits for 2I0 from rank 2, which (at 2I0) "
     "waits "
     "for 3B0 from rank 0"},
    {"StageBeforeTheOneThatFeedsItOnTheSameRank",
     Placement::v(1, 1),
     {"1F0,0F0,1B0,0B0"},
     Rule::kDeadlock,
     0,
     0,
     "rank 0 (at 1F0) waits for 0F0 from rank 0"},
    {"PairWhoseBackwardNeedsItsForwardOverAnotherRank",
     kTwo,
     {"0F0,(0F1;0B0)OVERLAP_F_B,0B1", "1F0,1F1,1B0,1B1"},
     Rule::kDeadlock,
     0,
     1,
     "rank 0 (at (0F1;0B0)OVERLAP_F_B) waits for 1B0 from rank 1, which (at 1F1) waits for 0F1 from rank 0"},
    {"OneBufferForMessagesTakenOutOfOrder",
     kTwo,
     {"0F0,0F1,0B0,0B1", "1F1,1F0,1B0,1B1"},
     Rule::kReceiveBuffers,
     1,
     0,
     "rank 1 needs 2 receive buffers for messages from rank 0, found 1",
     Passes::kTraining,
     1},
    {"MoreActivationsThanAllowed",
     kOne,
     {"0F0,(0F1;0B0)OVERLAP_F_B,0B1"},
     Rule::kActivationLimit,
     0,
     1,
     "rank 0 holds 2 stage activations at (0F1;0B0)OVERLAP_F_B: at most 1 are allowed",
     Passes::kTraining,
     {},
     1},
};

class VerifyRulesTest : public ::testing::TestWithParam<Case> {};

TEST_P(VerifyRulesTest, NamesTheRuleThePlaceAndTheReason) {
  const Case& wrong = GetParam();
  Schedule schedule = schedule_of(wrong.placement, wrong.lines);
  schedule.passes = wrong.passes;
  const Verdict verdict =
      verify(schedule, {.receive_buffers = wrong.receive_buffers, .max_activations = wrong.max_activations});
  ASSERT_FALSE(verdict.ok());
  const Diagnostic& first = verdict.diagnostics[0];
  EXPECT_EQ(rule_name(first.rule), rule_name(wrong.rule));
  EXPECT_EQ(first.rank, wrong.rank);
  EXPECT_EQ(first.step, wrong.step);
  if (wrong.step >= 0) {
    EXPECT_EQ(first.action, schedule.actions[wrong.rank][wrong.step]);
  }
  EXPECT_NE(first.message.find(wrong.message), std::string::npos) << first.message;
}

INSTANTIATE_TEST_SUITE_P(All, VerifyRulesTest, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return one.param.name; });

TEST(VerifyEdgesTest, NothingIsWrongWithAScheduleOfNothing) {
  EXPECT_TRUE(verify(Schedule{}).ok());
}

TEST(VerifyEdgesTest, ListsForAnotherNumberOfRanksAreNoSchedule) {
  Schedule schedule = schedule_of(kTwo, {"0F0,0F1,0B0,0B1"});
  EXPECT_EQ(verify(schedule).diagnostics.at(0).message, "expected actions for 2 ranks, found 1");
}

}  // namespace
}  // namespace counterflow
