#include "counterflow/verify.h"

#include <gtest/gtest.h>

#include "counterflow/generate.h"

namespace counterflow {
namespace {

/// Two ranks, a stage each, two micro-batches: 1F1B.
Schedule two_ranks() {
  Schedule schedule{"two", Placement::loop(2, 1, 2), {}, {}, {}};
  schedule.actions = {{forward(0, 0), forward(0, 1), backward(0, 0), backward(0, 1)},
                      {forward(1, 0), backward(1, 0), forward(1, 1), backward(1, 1)}};
  return schedule;
}

Diagnostic only(const Schedule& schedule, const VerifyOptions& options = {}) {
  const Verdict verdict = verify(schedule, options);
  EXPECT_EQ(verdict.num_diagnostics, 1) << draw(schedule, verdict);
  return verdict.diagnostics.empty() ? Diagnostic{} : verdict.diagnostics[0];
}

TEST(VerifyTest, AcceptsWhatRuns) {
  EXPECT_TRUE(verify(two_ranks()).ok());
}

TEST(VerifyTest, RejectsDuplicateForward) {
  Schedule schedule = two_ranks();
  schedule.actions[0].insert(schedule.actions[0].begin(), forward(0, 0));
  const Diagnostic found = only(schedule);
  EXPECT_EQ(found.rule, Rule::kDuplicateAction);
  EXPECT_EQ(found.rank, 0);
  EXPECT_EQ(found.step, 1);
}

TEST(VerifyTest, NamesAMissingBackward) {
  Schedule schedule = two_ranks();
  schedule.actions[1].pop_back();
  EXPECT_EQ(only(schedule).message, "1B1 never runs (and neither 1I1 nor 1W1): expected on rank 1");
}

TEST(VerifyTest, SpellsOutTheShortestCycleOfWaits) {
  Schedule schedule = two_ranks();
  std::swap(schedule.actions[0][1], schedule.actions[0][2]);
  std::swap(schedule.actions[1][1], schedule.actions[1][2]);
  const Diagnostic found = only(schedule);
  EXPECT_EQ(found.rule, Rule::kDeadlock);
  EXPECT_EQ(found.message,
            "rank 0 (at 0B0) waits for 1B0 from rank 1, which (at 1F1) waits for 0F1 from rank 0");
}

TEST(VerifyTest, AForwardThatNeedsALaterForwardOfItsOwnRankWaitsForItself) {
  Schedule schedule{"v", Placement::v(1, 1), {}, {}, {}};
  schedule.actions = {{forward(1, 0), forward(0, 0), backward(1, 0), backward(0, 0)}};
  EXPECT_EQ(only(schedule).message, "rank 0 (at 1F0) waits for 0F0 from rank 0");
}

TEST(VerifyTest, AnOverlappedPairOfOneMicroBatchDependsOnItself) {
  Schedule schedule{"one", Placement::loop(1, 1, 1), {}, {}, {}};
  schedule.actions = {{Action::overlap(forward(0, 0), backward(0, 0))}};
  EXPECT_EQ(only(schedule).rule, Rule::kOverlapDependsOnItself);
}

TEST(VerifyTest, CountsReceiveBuffersAndActivations) {
  const Schedule schedule = generate("dualpipe", {8, 20});
  EXPECT_TRUE(verify(schedule, {.receive_buffers = 2, .max_activations = 9}).ok());
  EXPECT_EQ(verify(schedule, {.receive_buffers = 1, .max_activations = {}}).diagnostics[0].rule,
            Rule::kReceiveBuffers);
  EXPECT_EQ(verify(schedule, {.receive_buffers = {}, .max_activations = 8}).diagnostics[0].rule,
            Rule::kActivationLimit);
}

TEST(VerifyTest, AForwardOnlyScheduleIsLegalAndHasNoBackwards) {
  Schedule schedule = forward_only(generate("dualpipe", {4, 8}));
  EXPECT_TRUE(verify(schedule).ok());
  schedule.actions[0].push_back(backward(0, 0));
  EXPECT_EQ(only(schedule).rule, Rule::kUnknownAction);
}

TEST(VerifyTest, KeepsTheFirstDiagnosticsAndCountsTheRest) {
  Schedule schedule = generate("dualpipe", {4, 8});
  for (auto& actions : schedule.actions) actions.clear();
  const Verdict verdict =
      verify(schedule, {.receive_buffers = {}, .max_activations = {}, .max_diagnostics = 5});
  EXPECT_EQ(verdict.diagnostics.size(), 5);
  EXPECT_EQ(verdict.num_diagnostics, 4 * 8 * 2);
  EXPECT_NE(draw(schedule, verdict).find("… and 59 more"), std::string::npos);
}

// Whether what comes too early misses something is known only at the end; it was counted up to the cap.
TEST(VerifyTest, CountsAllThatComesTooEarly) {
  const auto too_early = [](int count) {
    Schedule schedule{"", Placement::loop(1, 1, count), {}, {}, {{}}};
    for (int i = 0; i < count; ++i) {
      for (const Pass& pass : {weight_gradient(0, i), input_gradient(0, i), forward(0, i)})
        schedule.actions[0].emplace_back(pass);
    }
    return schedule;
  };
  for (const int kept : {0, 1, 5, 1000}) {
    const Verdict verdict =
        verify(too_early(150), {.receive_buffers = {}, .max_activations = {}, .max_diagnostics = kept});
    EXPECT_EQ(verdict.num_diagnostics, 300);
    EXPECT_EQ(verdict.diagnostics.size(), std::min(kept, 300));
  }
}

TEST(VerifyTest, SpellsOutWhatFitsOfALongCircle) {
  const auto message_of = [](int num_ranks) {  // rank 0 begins with what needs all others
    Schedule schedule{"", Placement::loop(num_ranks, 2, 1), Passes::kForward, {}, {}};
    for (int rank = 0; rank < num_ranks; ++rank)
      schedule.actions.push_back({forward(rank, 0), forward(num_ranks + rank, 0)});
    std::swap(schedule.actions[0][0], schedule.actions[0][1]);
    return verify(schedule).diagnostics.at(0).message;
  };
  const auto count_waits = [](const std::string& text) {
    int found = 0;
    for (auto at = text.find("waits for"); at != std::string::npos; at = text.find("waits for", at + 1))
      ++found;
    return found;
  };
  EXPECT_EQ(count_waits(message_of(64)), 64);
  const std::string text = message_of(1000);
  EXPECT_EQ(count_waits(text), 64);
  EXPECT_NE(text.find("from rank 937, which … (936 more ranks), which (at 1F0) waits for 0F0 from rank 0"),
            std::string::npos)
      << text;
}

// Ranks 1 to 40000 wait for rank 0, whose list is as long as theirs together: cost that grows with their
// product would take minutes.
TEST(VerifyTest, ManyRanksMayWaitForALongList) {
  constexpr int kRanks = 40000;
  constexpr int kMicroBatches = 40;
  std::vector<std::int32_t> ranks;
  Schedule schedule;
  schedule.passes = Passes::kForward;
  schedule.actions.resize(kRanks + 1);
  for (int k = 0; k < kRanks; ++k) ranks.insert(ranks.end(), {0, k + 1});
  for (int k = kRanks; k-- > 0;) {
    for (int i = 0; i < kMicroBatches; ++i) {
      schedule.actions[0].emplace_back(forward(2 * k, i));
      schedule.actions[k + 1].emplace_back(forward(2 * k + 1, i));
    }
  }
  schedule.placement = Placement(kRanks + 1, {{0, kMicroBatches, ranks}});
  const Verdict verdict = verify(schedule);
  ASSERT_EQ(verdict.num_diagnostics, 1);
  EXPECT_EQ(verdict.diagnostics[0].rule, Rule::kDeadlock);
}

TEST(VerifyTest, DrawsTheGridWithTheCulpritMarked) {
  Schedule schedule = two_ranks();
  std::swap(schedule.actions[1][0], schedule.actions[1][1]);
  EXPECT_EQ(draw(schedule, verify(schedule)),
            "step    0     1    2    3\n"
            "rank 0  0F0   0F1  0B0  0B1\n"
            "rank 1 >1B0<  1F0  1F1  1B1\n"
            "\n"
            "backward-before-forward: rank 1, step 0: 1B0 comes before 1F0\n");
}

TEST(VerifyTest, DrawsAsManyStepsAsFitAroundTheCulprit) {
  Schedule schedule = two_ranks();
  std::swap(schedule.actions[1][1], schedule.actions[1][3]);
  const Verdict verdict = verify(schedule);
  const std::string whole = draw(schedule, verdict);
  EXPECT_EQ(whole.substr(0, whole.find("\n\n")),
            "step    0    1     2    3\n"
            "rank 0  0F0  0F1   0B0  0B1\n"
            "rank 1  1F0 >1B1<  1F1  1B0");
  for (const std::size_t width : {27, 28, 1000}) EXPECT_EQ(draw(schedule, verdict, width), whole);
  const std::string narrow = draw(schedule, verdict, 22);
  EXPECT_EQ(narrow.substr(0, narrow.find("\n\n")),
            "step    0    1     2\n"
            "rank 0  0F0  0F1   0B0\n"
            "rank 1  1F0 >1B1<  1F1");
  const std::string one = draw(schedule, verdict, 3);
  EXPECT_EQ(one.substr(0, one.find("\n\n")),
            "step    1\n"
            "rank 0  0F1\n"
            "rank 1 >1B1<");
}

}  // namespace
}  // namespace counterflow
