// verify() against the brute-force model, on every schedule that one edit makes of a generator's, and on long
// walks of edits that keep a schedule legal.
#include "mutants.h"

#include <gtest/gtest.h>

#include <iostream>
#include <map>
#include <random>
#include <set>

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
  for (const auto& [rule, what] : model.broken_rules())
    text.append("  ").append(rule).append(": ").append(what).append("\n");
  return text + (model.runs_to_end() ? "  runs to its end\n" : "  does not run to its end\n");
}

// A deadlock's message has to go round a circle of waits that the model sees too, and none may be shorter.
void judge_circle(const Diagnostic& deadlock, const Schedule& schedule, const BruteForceModel& model) {
  SCOPED_TRACE(deadlock.message + "\n" + text_of(schedule));
  const std::vector<BruteForceModel::Wait> waits = model.waits_when_stuck();
  const std::string opening = "waits for ";
  const std::string& text = deadlock.message;
  int rank = deadlock.rank;
  int length = 0;
  for (std::size_t at = text.find(opening); at != std::string::npos; at = text.find(opening, at + 1)) {
    const std::size_t pass_at = at + opening.size();
    const Pass pass = pass_of(text.substr(pass_at, text.find(' ', pass_at) - pass_at));
    const std::string thing = std::to_string(pass.stage) + (pass.kind == PassKind::kForward ? "F" : "G") +
                              std::to_string(pass.micro_batch);
    const int from = std::stoi(text.substr(text.find("from rank ", at) + 10));
    ++length;
    const bool is_wait = std::any_of(waits.begin(), waits.end(), [&](const BruteForceModel::Wait& wait) {
      return wait.rank == rank && wait.thing == thing && wait.from == from;
    });
    EXPECT_TRUE(is_wait) << "rank " << rank << " waits for " << thing << " from rank " << from;
    rank = from;
  }
  EXPECT_EQ(rank, deadlock.rank);
  EXPECT_EQ(length, model.shortest_circle());
}

void judge_one_and_two_buffers(const Schedule& schedule, const BruteForceModel& model,
                               const std::string& what) {
  for (const int buffers : {1, 2}) {
    EXPECT_EQ(verify(schedule, {.receive_buffers = buffers, .max_activations = {}}).ok(),
              model.runs_to_end(buffers))
        << what << " with " << buffers << " receive buffers\n"
        << text_of(schedule);
  }
}

// Whether the model accepts the schedule; fails the test where verify() disagrees, or finds a rule broken
// that is not.
bool judge(const Schedule& schedule, const std::string& what, Tally* tally = nullptr) {
  const BruteForceModel model(schedule);
  std::set<std::string> broken;
  for (const auto& breach : model.broken_rules()) broken.insert(breach.rule);
  if (broken.empty() && !model.runs_to_end()) broken.insert("deadlock");
  const Verdict verdict = verify(schedule);
  const auto show = [&] {
    return what + "\n" + text_of(schedule) + "verify:\n" + text_of(verdict) + "model:\n" + text_of(model);
  };
  EXPECT_EQ(verdict.ok(), broken.empty()) << show();
  for (const Diagnostic& diagnostic : verdict.diagnostics)
    EXPECT_TRUE(broken.contains(std::string(rule_name(diagnostic.rule)))) << show();
  std::set<std::string> found;
  for (const Diagnostic& diagnostic : verdict.diagnostics)
    found.insert(std::string(rule_name(diagnostic.rule)));
  for (const char* rule : {"unknown-action", "wrong-rank", "missing-action", "duplicate-action",
                           "mixed-backward", "overlap-depends-on-itself", "deadlock"}) {
    EXPECT_EQ(found.contains(rule), broken.contains(rule)) << rule << ": " << show();
  }
  if (verdict.ok()) judge_one_and_two_buffers(schedule, model, what);
  if (!verdict.ok() && verdict.diagnostics[0].rule == Rule::kDeadlock)
    judge_circle(verdict.diagnostics[0], schedule, model);
  if (tally != nullptr) {
    ++tally->mutants;
    if (broken.empty()) ++tally->accepted;
    if (!verdict.ok()) ++tally->by_rule[verdict.diagnostics[0].rule];
  }
  return broken.empty();
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

// A move within a rank: the edit most likely to leave a schedule legal.
Mutation random_move(const Schedule& schedule, std::mt19937& random) {
  const int rank = static_cast<int>(random() % schedule.actions.size());
  const std::size_t size = schedule.actions[rank].size();
  Mutation mutation{Mutation::Kind::kMove, rank, static_cast<int>(random() % size)};
  mutation.rank_to = rank;
  mutation.step_to = static_cast<int>(random() % size);
  return mutation;
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
      Schedule next = random_move(current, random).apply(current);
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

// Several edits at once tie longer knots: more than one circle, and circles of more than two ranks.
TEST(MutantsTest, VerifyAgreesWithTheModelOnSeveralEditsAtOnce) {
  const int tries = testing::sweep(60, 2000);
  std::mt19937 random(3);
  Tally tally;
  visit_small_schedules([&](const Schedule& schedule, const std::string& what) {
    for (int i = 0; i < tries && !::testing::Test::HasFailure(); ++i) {
      Schedule mutant = schedule;
      for (int edits = 2 + static_cast<int>(random() % 6); edits > 0; --edits)
        mutant = random_move(mutant, random).apply(mutant);
      judge(mutant, what + ", several moves", &tally);
    }
  });
  std::cout << tally.mutants << " mutants, " << tally.accepted << " of them legal\n";
  EXPECT_GT(tally.accepted, 10);
  EXPECT_GT(tally.by_rule[Rule::kDeadlock], 100);
}

}  // namespace
}  // namespace counterflow
