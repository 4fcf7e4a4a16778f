// verify() against the brute-force model, on every schedule that one edit makes of a generator's, and on long
// walks of edits that keep a schedule legal.
#include "mutants.h"

#include <gtest/gtest.h>

#include <iostream>
#include <map>
#include <random>

#include "brute_force_model.h"
#include "counterflow/generate.h"
#include "counterflow/program.h"
#include "counterflow/verify.h"
#include "generated_sizes.h"
#include "schedule_text.h"
#include "support/sweep.h"

namespace counterflow {
namespace {

struct Tally {
  std::int64_t mutants = 0;
  std::int64_t accepted = 0;
  std::map<Mutation::Kind, std::int64_t> by_kind;
  std::map<Rule, std::int64_t> by_rule;  ///< of the first diagnostic
};

std::string text_of(const Verdict& verdict) {
  std::string text = verdict.ok() ? "  ok\n" : "";
  for (const Diagnostic& diagnostic : verdict.diagnostics)
    text += "  " + std::string(rule_name(diagnostic.rule)) + ": " + diagnostic.message + "\n";
  return text;
}

std::string text_of(const BruteForceModel& model) {
  std::string text;
  for (const std::string& broken : model.broken_rules()) text += "  " + broken + "\n";
  return text + (model.runs_to_end() ? "  runs to its end\n" : "  does not run to its end\n");
}

// Whether the model accepts the schedule; fails the test where verify() disagrees.
bool judge(const Schedule& schedule, const std::string& what, Tally* tally = nullptr) {
  const BruteForceModel model(schedule);
  const bool legal = model.broken_rules().empty() && model.runs_to_end();
  const Verdict verdict = verify(schedule);
  EXPECT_EQ(verdict.ok(), legal) << what << "\n"
                                 << text_of(schedule) << "verify:\n"
                                 << text_of(verdict) << "model:\n"
                                 << text_of(model);
  if (tally != nullptr) {
    ++tally->mutants;
    if (legal) ++tally->accepted;
    if (!verdict.diagnostics.empty()) ++tally->by_rule[verdict.diagnostics[0].rule];
  }
  if (legal) {
    for (const int buffers : {1, 2}) {
      EXPECT_EQ(verify(schedule, {.receive_buffers = buffers, .max_activations = {}}).ok(),
                model.runs_to_end(buffers))
          << what << " with " << buffers << " receive buffers\n"
          << text_of(schedule);
    }
  }
  return legal;
}

// What a schedule that runs needs of each channel and holds of activations, found by trying.
void judge_needs(const Schedule& schedule, const std::string& what) {
  const BruteForceModel model(schedule);
  BruteForceModel::Buffers needed;
  for (const Channel& channel : required_channels(schedule)) {
    if (channel.messages > 0) needed[{channel.from, channel.to}] = channel.receive_buffers;
  }
  const BruteForceModel::Buffers least = model.least_buffers();
  EXPECT_EQ(needed, least) << what << "\n" << text_of(schedule);
  // Each channel's fewest was found alone; together they have to do as well.
  EXPECT_TRUE(model.runs_to_end(least)) << what << "\n" << text_of(schedule);
  const int peak = model.peak_activations();
  EXPECT_TRUE(verify(schedule, {.receive_buffers = {}, .max_activations = peak}).ok()) << what;
  const Verdict verdict = verify(schedule, {.receive_buffers = {}, .max_activations = peak - 1});
  ASSERT_FALSE(verdict.ok()) << what;
  EXPECT_EQ(verdict.diagnostics[0].rule, Rule::kActivationLimit) << what;
}

std::string name_of(const Generator& generator, const Size& size, Passes passes) {
  return std::string(generator.name) + " " + std::to_string(size.ranks) + "x" +
         std::to_string(size.micro_batches) + ", " + std::to_string(size.stages_per_rank) + " stages a rank" +
         (passes == Passes::kForward ? ", forward only" : "");
}

void visit_small_schedules(const std::function<void(const Schedule&, const std::string&)>& visit) {
  for (const Generator* generator : all_generators()) {
    for (const Size& size : small_sizes(*generator)) {
      const Schedule schedule = generate(*generator, size);
      visit(schedule, name_of(*generator, size, Passes::kTraining));
      visit(forward_only(schedule), name_of(*generator, size, Passes::kForward));
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TEST(MutantsTest, VerifyAgreesWithTheModelOnWhatGeneratorsMake) {
  visit_small_schedules([](const Schedule& schedule, const std::string& what) {
    EXPECT_TRUE(judge(schedule, what)) << what;
    judge_needs(schedule, what);
  });
}

TEST(MutantsTest, VerifyAgreesWithTheModelOnEveryEdit) {
  constexpr std::size_t kSample = 400;
  std::mt19937 random(1);
  Tally tally;
  visit_small_schedules([&](const Schedule& schedule, const std::string& what) {
    std::vector<Mutation> mutations = all_mutations(schedule);
    if (!testing::full_sweeps() && mutations.size() > kSample) {
      std::shuffle(mutations.begin(), mutations.end(), random);
      mutations.resize(kSample);
    }
    for (const Mutation& mutation : mutations) {
      ++tally.by_kind[mutation.kind];
      judge(mutation.apply(schedule), what + ": " + mutation.text(schedule), &tally);
      if (::testing::Test::HasFailure()) return;
    }
  });
  std::cout << tally.mutants << " mutants, " << tally.accepted << " of them legal\n";
  for (const auto& [rule, count] : tally.by_rule)
    std::cout << "  " << count << " rejected first for " << rule_name(rule) << "\n";
  RecordProperty("mutants", std::to_string(tally.mutants));
  RecordProperty("accepted", std::to_string(tally.accepted));
  EXPECT_GT(tally.mutants, 10000);
  EXPECT_GT(tally.accepted, tally.mutants / 50);
  EXPECT_EQ(tally.by_kind.size(), 8U);
  for (const Rule rule : {Rule::kUnknownAction, Rule::kWrongRank, Rule::kMissingAction,
                          Rule::kDuplicateAction, Rule::kMixedBackward, Rule::kBackwardBeforeForward,
                          Rule::kWeightBeforeInput, Rule::kOverlapDependsOnItself, Rule::kDeadlock}) {
    EXPECT_GT(tally.by_rule[rule], 0) << rule_name(rule);
  }
}

// One edit leaves a schedule close to its generator's. A walk of legal edits ends up far from it, with
// messages consumed in an order that no generator makes.
TEST(MutantsTest, VerifyAgreesWithTheModelOnLongWalksOfLegalEdits) {
  const int steps = testing::sweep(60, 400);
  std::mt19937 random(2);
  int most_buffers = 0;
  std::int64_t moved = 0;
  visit_small_schedules([&](const Schedule& schedule, const std::string& what) {
    Schedule current = schedule;
    for (int i = 0; i < steps; ++i) {
      // A move within the rank: the edit most likely to leave a schedule legal.
      const int rank = static_cast<int>(random() % current.actions.size());
      const int size = static_cast<int>(current.actions[rank].size());
      if (size < 2) continue;
      Mutation mutation{Mutation::Kind::kMove, rank, static_cast<int>(random() % size)};
      mutation.rank_to = rank;
      mutation.step_to = static_cast<int>(random() % size);
      Schedule next = mutation.apply(current);
      if (!judge(next, what + ", step " + std::to_string(i) + " of a walk")) continue;
      ++moved;
      current = std::move(next);
    }
    judge_needs(current, what + ", the end of a walk");
    for (const Channel& channel : required_channels(current))
      most_buffers = std::max(most_buffers, channel.receive_buffers);
  });
  std::cout << moved << " legal edits, up to " << most_buffers << " receive buffers\n";
  EXPECT_GT(moved, 1000);
  EXPECT_GE(most_buffers, 3);
}

}  // namespace
}  // namespace counterflow
