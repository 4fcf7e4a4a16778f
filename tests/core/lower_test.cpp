#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/program.h"
#include "counterflow/verify.h"

namespace counterflow {
namespace {

std::string text_of(const Program& program, const Schedule& schedule, int rank) {
  std::string text;
  for (const Instruction& one : program.ranks[rank]) {
    text += (text.empty() ? "" : " ") + to_string(one, schedule.actions[rank]);
  }
  return text;
}

// Rank 0 has a channel to and from each of 20000: looking through them for each message would take longer
// than all else, and with 65536 minutes.
TEST(LowerTest, ManyRanksMayTalkToOne) {
  constexpr int kRanks = 20000;
  constexpr int kMicroBatches = 10;
  std::vector<std::int32_t> ranks;
  Schedule schedule;
  schedule.passes = Passes::kForward;
  schedule.actions.resize(kRanks + 1);
  for (int k = 0; k < kRanks; ++k) ranks.insert(ranks.end(), {0, k + 1});
  for (int i = 0; i < kMicroBatches; ++i) {
    for (int k = 0; k < kRanks; ++k) {
      schedule.actions[0].emplace_back(forward(2 * k, i));
      schedule.actions[k + 1].emplace_back(forward(2 * k + 1, i));
    }
  }
  schedule.placement = Placement(kRanks + 1, {{0, kMicroBatches, ranks}});
  EXPECT_EQ(lower(schedule).channels.size(), 2 * kRanks - 1);
}

TEST(LowerTest, PutsTransfersBetweenTheActionsOfTwoStages) {
  Schedule schedule{"two", Placement::loop(2, 1, 1), {}, {}, {}};
  schedule.actions = {{forward(0, 0), backward(0, 0)},
                      {forward(1, 0), input_gradient(1, 0), weight_gradient(1, 0)}};
  const Program program = lower(schedule);
  EXPECT_EQ(text_of(program, schedule, 0), "0RECV_B0 0F0 0SEND_F0 0B0");
  EXPECT_EQ(text_of(program, schedule, 1), "1RECV_F0 1F0 1I0 1SEND_B0 1W0");
  EXPECT_EQ(program.channels, (std::vector<Channel>{{0, 1, 1, 1}, {1, 0, 1, 1}}));
  EXPECT_TRUE(program.reductions.empty());
}

TEST(LowerTest, KeepsTheTurnOfAVOnItsRank) {
  Schedule schedule{"v", Placement::v(1, 1), {}, {}, {}};
  schedule.actions = {{forward(0, 0), forward(1, 0), backward(1, 0), backward(0, 0)}};
  EXPECT_EQ(text_of(lower(schedule), schedule, 0), "0F0 1F0 1B0 0B0");
}

TEST(LowerTest, ReducesBothCopiesOfAStageInOneGroupAtTheEnd) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  const Program program = lower(schedule);
  ASSERT_EQ(program.reductions.size(), 2);
  EXPECT_EQ(program.reductions[0].ranks, (std::vector<std::int32_t>{0, 3}));
  EXPECT_EQ(program.reductions[1].ranks, (std::vector<std::int32_t>{1, 2}));
  for (int rank = 0; rank < 4; ++rank) {
    const auto& instructions = program.ranks[rank];
    const Instruction& last = instructions[instructions.size() - 1];
    const Instruction& before = instructions[instructions.size() - 2];
    EXPECT_EQ(before.op, Op::kReduceGradients);
    EXPECT_EQ(last.op, Op::kReduceGradients);
    EXPECT_EQ(before.group, last.group);
    EXPECT_LT(before.stage, last.stage);
  }
}

TEST(LowerTest, UsesAsManyReceiveBuffersAsAsked) {
  const Schedule schedule = generate("dualpipe", {8, 20});
  EXPECT_EQ(lower(schedule, {.receive_buffers = 4}).channels[0].receive_buffers, 4);
  EXPECT_THROW(lower(schedule, {.receive_buffers = 1}), InvalidConfig);
}

TEST(LowerTest, UsesNoMoreReceiveBuffersThanThereAreMessages) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  for (const Channel& channel : lower(schedule, {.receive_buffers = 2'000'000'000}).channels)
    EXPECT_EQ(channel.receive_buffers, channel.messages);
}

TEST(LowerTest, ProgramsPassTheirOwnVerification) {
  for (const Size size : {Size{2, 4}, Size{4, 10}, Size{8, 20}, Size{16, 32}}) {
    const Schedule schedule = generate("dualpipe", size);
    const Verdict verdict = verify(lower(schedule), schedule);
    EXPECT_TRUE(verdict.ok()) << draw(schedule, verdict);
  }
}

TEST(LowerTest, AProgramWhoseReceivesAreSwappedIsRejected) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  Program program = lower(schedule, {.receive_buffers = 8});
  auto& rank = program.ranks[1];
  ASSERT_EQ(rank[0].channel, rank[1].channel);
  std::swap(rank[0], rank[1]);
  const Verdict verdict = verify(program, schedule);
  ASSERT_FALSE(verdict.ok());
  EXPECT_EQ(verdict.diagnostics[0].rule, Rule::kChannel);
}

TEST(LowerTest, AGroupThatOneSideSplitsIsRejected) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  Program program = lower(schedule);
  program.ranks[0].back().group = 7;
  const Verdict verdict = verify(program, schedule);
  ASSERT_FALSE(verdict.ok());
  EXPECT_EQ(verdict.diagnostics[0].rule, Rule::kGroup);
}

TEST(LowerTest, ADeviceThatRunsFewerTransfersThanMayWaitIsRejected) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  const Verdict verdict = verify(lower(schedule), schedule, 3);
  ASSERT_FALSE(verdict.ok());
  EXPECT_EQ(verdict.diagnostics[0].rule, Rule::kResidency);
}

}  // namespace
}  // namespace counterflow
