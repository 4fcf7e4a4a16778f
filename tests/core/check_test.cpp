#include "counterflow/check.h"

#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"

namespace counterflow {
namespace {

// DualPipe at 4 x 8 and unit costs: makespan 26, every rank idles for 2.
Simulation dualpipe_run() {
  return simulate(generate("dualpipe", {4, 8}), UniformCost{});
}

TEST(CheckTest, PassesWhatKeepsItsLimitsExactly) {
  const Simulation run = dualpipe_run();
  EXPECT_TRUE(check(run, {}).empty());
  EXPECT_TRUE(check(run, {.max_bubble_ratio = 2.0 / 26.0, .max_bubble = 2, .max_makespan = 26}).empty());
}

TEST(CheckTest, NamesEveryLimitThatIsPassed) {
  const auto found = check(dualpipe_run(), {.max_bubble_ratio = 0.0769, .max_bubble = 1, .max_makespan = 25});
  ASSERT_EQ(found.size(), 3);
  for (const Diagnostic& one : found) EXPECT_EQ(one.rule, Rule::kLimit);
  EXPECT_EQ(found[0].message, "bubble ratio 0.07692307692307693, at most 0.0769 allowed");
  EXPECT_EQ(found[1].message, "bubble 2, at most 1 allowed");
  EXPECT_EQ(found[1].rank, 0);
  EXPECT_EQ(found[2].message, "makespan 26, at most 25 allowed");
}

TEST(CheckTest, BlamesTheRankThatIdlesMost) {
  const Simulation run = simulate(generate("dualpipe", {8, 20}), parse_uniform_cost("f=1,i=1,w=1,fb=2"));
  const auto found = check(run, {.max_bubble_ratio = {}, .max_bubble = 2, .max_makespan = {}});
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].rank, 2);  // idle 1 2 3 3 3 3 2 1
}

TEST(CheckTest, HoldsARanksBytesToItsMemory) {
  CostModel costs;
  costs.stages = {{.activation_bytes = 100, .output_bytes = 7, .parameter_bytes = 1000}};
  const Schedule schedule =
      generate("gpipe", {2, 3});  // a rank holds 300 of activations, receives 7 at a time
  const std::vector<RankResult> ranks = simulate(schedule, costs).ranks;
  const auto bytes = [&](int rank) {
    return ranks[rank].peak_activation_bytes + ranks[rank].static_bytes + ranks[rank].receive_bytes;
  };
  EXPECT_GE(bytes(0), 1307);
  costs.memory_of_rank = {bytes(0), bytes(1)};
  EXPECT_TRUE(judge(schedule, {}, costs, {}).verdict.ok());
  costs.memory_of_rank = {bytes(0) - 1, bytes(1) - 2};
  const Verdict verdict = judge(schedule, {}, costs, {}).verdict;
  ASSERT_EQ(verdict.num_diagnostics, 1);
  EXPECT_EQ(verdict.diagnostics[0].rule, Rule::kLimit);
  EXPECT_EQ(verdict.diagnostics[0].rank, 1);
  EXPECT_EQ(verdict.diagnostics[0].message, "memory of " + std::to_string(bytes(1)) + " bytes, at most " +
                                                std::to_string(bytes(1) - 2) + " allowed");
  costs.memory_of_rank = {0, 0};  // not known
  EXPECT_TRUE(judge(schedule, {}, costs, {}).verdict.ok());
}

TEST(CheckTest, HoldsAScheduleToItsClaims) {
  Schedule schedule = generate("dualpipe", {4, 8});
  schedule.claims = {{2, UniformCost{}}, {1, parse_uniform_cost("f=1,i=1,w=1,fb=2")}};
  EXPECT_TRUE(check_claims(schedule).empty());
  schedule.claims[1].bubble = 0;
  const auto found = check_claims(schedule);
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].rule, Rule::kClaim);
  EXPECT_EQ(found[0].message, "claims a bubble of 0 under f=1,i=1,w=1,fb=2, but rank 0 idles for 1");
}

TEST(CheckTest, AClaimThatIsTooHighIsAsWrong) {
  Schedule schedule = generate("dualpipe", {4, 8});
  schedule.claims = {{3, UniformCost{}}};
  EXPECT_EQ(check_claims(schedule).size(), 1);
}

TEST(JudgeTest, SimulatesWhatVerifies) {
  const Judgement judgement = judge(generate("dualpipe", {4, 8}), {}, UniformCost{}, {});
  EXPECT_TRUE(judgement.verdict.ok());
  ASSERT_TRUE(judgement.simulation);
  EXPECT_EQ(judgement.simulation->makespan, 26);
}

TEST(JudgeTest, DoesNotRunWhatDoesNotVerify) {
  Schedule schedule = generate("dualpipe", {4, 8});
  schedule.actions[2].pop_back();
  schedule.claims = {{0, UniformCost{}}};
  const Judgement judgement = judge(schedule, {}, UniformCost{}, {});
  EXPECT_FALSE(judgement.verdict.ok());
  EXPECT_FALSE(judgement.simulation);
}

TEST(JudgeTest, CountsClaimsAndLimitsAmongTheDiagnostics) {
  Schedule schedule = generate("dualpipe", {4, 8});
  schedule.claims = {{0, UniformCost{}}};
  const Judgement judgement =
      judge(schedule, {}, UniformCost{}, {.max_bubble_ratio = {}, .max_bubble = {}, .max_makespan = 20});
  EXPECT_EQ(judgement.verdict.num_diagnostics, 2);
  ASSERT_EQ(judgement.verdict.diagnostics.size(), 2);
  EXPECT_EQ(judgement.verdict.diagnostics[0].rule, Rule::kClaim);
  EXPECT_EQ(judgement.verdict.diagnostics[1].rule, Rule::kLimit);
}

TEST(JudgeTest, StillSimulatesWhatOnlyHoldsTooManyActivations) {
  VerifyOptions options;
  options.max_activations = 3;
  const Judgement judgement = judge(generate("dualpipe", {4, 8}), options, UniformCost{}, {});
  EXPECT_FALSE(judgement.verdict.ok());
  ASSERT_TRUE(judgement.simulation);
  EXPECT_EQ(judgement.simulation->makespan, 26);
}

TEST(JudgeTest, RefusesCostsOfAnotherNumberOfStages) {
  CostModel costs;
  costs.stages.resize(3);
  EXPECT_THROW(judge(generate("dualpipe", {4, 8}), {}, costs, {}), InvalidConfig);
}

}  // namespace
}  // namespace counterflow
