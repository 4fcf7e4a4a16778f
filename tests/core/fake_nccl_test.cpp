// Lowered programs on a fake of NCCL: what lower() makes of every generator's schedules runs to its end, with
// the right inputs and sums, under any interleaving; and what verify() says of a broken program, the fake
// says too.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <random>

#include "counterflow/generate.h"
#include "counterflow/program.h"
#include "counterflow/verify.h"
#include "fake_nccl/program_run.h"
#include "generated_sizes.h"
#include "program_mutants.h"
#include "schedule_text.h"
#include "support/sweep.h"

namespace counterflow {
namespace {

using fake_nccl::run;
using fake_nccl::RunOptions;
using fake_nccl::RunResult;

std::string name_of(const Generator& generator, const Size& size) {
  return std::string(generator.name) + " " + std::to_string(size.ranks) + "x" +
         std::to_string(size.micro_batches) + ", " + std::to_string(size.stages_per_rank) + " stages a rank";
}

/// The first run that is not as it should be, of some with different interleavings, else the last.
RunResult run_often(const Program& program, const Schedule& schedule, int seeds, RunOptions options = {}) {
  RunResult result;
  for (int i = 0; i < seeds; ++i, ++options.seed) {
    result = run(program, schedule, options);
    if (!result.ok()) break;
  }
  return result;
}

std::string text_of(const Verdict& verdict) {
  std::string text = "verify: " + std::to_string(verdict.num_diagnostics) + " diagnostics\n";
  for (const Diagnostic& one : verdict.diagnostics)
    text += "  " + std::string(rule_name(one.rule)) + ": " + one.message + "\n";
  return text;
}

TEST(LoweredProgramTest, EveryGeneratorsRunsToItsEndUnderManyInterleavings) {
  const int seeds = testing::sweep(2, 30);
  int runs = 0;
  for (const Generator* generator : all_generators()) {
    for (const Size& size : large_sizes(*generator)) {
      const Schedule training = generate(*generator, size);
      for (const Schedule& schedule : {training, forward_only(training)}) {
        RunOptions options;
        options.seed = static_cast<std::uint32_t>(runs);
        const RunResult result = run_often(lower(schedule), schedule, seeds, options);
        ASSERT_TRUE(result.ok()) << name_of(*generator, size) << ": " << result.text();
        runs += seeds;
      }
    }
  }
  std::cout << runs << " runs\n";
  RecordProperty("runs", runs);
  EXPECT_GT(runs, 100);
}

TEST(LoweredProgramTest, MoreReceiveBuffersThanNeededDoNoHarm) {
  for (const Generator* generator : all_generators()) {
    const Schedule schedule = generate(*generator, large_sizes(*generator).front());
    const RunResult result = run_often(lower(schedule, {.receive_buffers = 4}), schedule, 5);
    EXPECT_TRUE(result.ok()) << generator->name << ": " << result.text();
  }
}

TEST(LoweredProgramTest, DualPipeDualPipeVAndZbvHangWithOneReceiveBuffer) {
  for (const auto& [name, size] :
       {std::pair{"dualpipe", Size{8, 20}}, {"dualpipe-v", Size{8, 20}}, {"zbv", Size{8, 16}}}) {
    const Schedule schedule = generate(name, size);
    RunOptions options;
    options.waits_for_later = true;
    const RunResult result = run(with_one_receive_buffer(lower(schedule)), schedule, options);
    EXPECT_FALSE(result.finished) << name;
    const Verdict verdict = verify(schedule, {.receive_buffers = 1, .max_activations = {}});
    ASSERT_FALSE(verdict.ok()) << name;
    EXPECT_EQ(verdict.diagnostics[0].rule, Rule::kReceiveBuffers) << name;
    EXPECT_NE(verdict.diagnostics[0].message.find("receive buffers for messages from rank"),
              std::string::npos);
  }
}

TEST(LoweredProgramTest, HangsWithOneReceiveBufferExactlyWhereVerifySaysSo) {
  int hung = 0;
  int finished = 0;
  for (const Generator* generator : all_generators()) {
    for (const Size& size : large_sizes(*generator)) {
      const Schedule schedule = generate(*generator, size);
      RunOptions options;
      options.waits_for_later = true;
      const RunResult result = run(with_one_receive_buffer(lower(schedule)), schedule, options);
      EXPECT_EQ(result.finished, verify(schedule, {.receive_buffers = 1, .max_activations = {}}).ok())
          << name_of(*generator, size) << ": " << result.text();
      EXPECT_TRUE(result.errors.empty()) << name_of(*generator, size) << ": " << result.text();
      ++(result.finished ? finished : hung);
    }
  }
  EXPECT_GT(hung, 10);
  EXPECT_GT(finished, 10);
}

/// A small schedule of every generator for 2, 3 and 4 ranks.
void visit_small_schedules(const std::function<void(const Schedule&, const std::string&)>& visit) {
  for (const Generator* generator : all_generators()) {
    for (int ranks = 2; ranks <= 4; ++ranks) {
      for (const Size& size : first_fitting(*generator, ranks, generator->stages_per_rank, 1, 16, 1)) {
        visit(generate(*generator, size), name_of(*generator, size));
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

struct Tally {
  int programs = 0;
  int good = 0;
  int hung = 0;
};

/// verify() has to reject what hangs or computes wrongly on the fake, and nothing else.
void judge(const ProgramMutant& mutant, const Schedule& schedule, const std::string& name, Tally& tally) {
  const RunResult result = run_often(mutant.program, schedule, 4);
  const Verdict verdict = verify(mutant.program, schedule);
  ++tally.programs;
  if (result.ok()) ++tally.good;
  if (!result.finished) ++tally.hung;
  ASSERT_EQ(verdict.ok(), result.ok())
      << name << ", " << mutant.what << "\nfake: " << result.text() << text_of(verdict);
}

TEST(LoweredProgramTest, VerifyAgreesWithTheFakeOnEveryEditOfAProgram) {
  constexpr std::size_t kSample = 200;
  std::mt19937 random(1);
  Tally tally;
  visit_small_schedules([&](const Schedule& schedule, const std::string& name) {
    std::vector<ProgramMutant> mutants = all_mutants(lower(schedule), schedule);
    if (!testing::full_sweeps() && mutants.size() > kSample) {
      std::shuffle(mutants.begin(), mutants.end(), random);
      mutants.resize(kSample);
    }
    for (const ProgramMutant& mutant : mutants) {
      judge(mutant, schedule, name, tally);
      if (HasFatalFailure()) return;
    }
  });
  std::cout << tally.programs << " programs, " << tally.good << " of them good, " << tally.hung << " hang\n";
  EXPECT_GT(tally.programs, 1000);
  EXPECT_GT(tally.good, tally.programs / 100);
  EXPECT_GT(tally.hung, tally.programs / 100);
}

TEST(LoweredProgramTest, VerifyAgreesWithTheFakeOnGroups) {
  const int edits = testing::sweep(60, 3000);
  std::mt19937 random(2);
  Tally tally;
  visit_small_schedules([&](const Schedule& schedule, const std::string& name) {
    const Program program = lower(schedule, {.receive_buffers = 4});
    for (int i = 0; i < edits && !HasFatalFailure(); ++i)
      judge(with_random_groups(program, random), schedule, name, tally);
  });
  std::cout << tally.programs << " programs, " << tally.good << " of them good, " << tally.hung << " hang\n";
  EXPECT_GT(tally.good, tally.programs / 10);
  EXPECT_GT(tally.hung, tally.programs / 10);
}

TEST(LoweredProgramTest, DeviceThatVerifySaysIsLargeEnoughNeverHangs) {
  const int seeds = testing::sweep(20, 500);
  int too_small = 0;
  visit_small_schedules([&](const Schedule& schedule, const std::string& name) {
    const Program program = lower(schedule);
    for (int places = 1; places <= 8; ++places) {
      RunOptions options;
      options.max_resident = places;
      const RunResult result = run_often(program, schedule, seeds, options);
      const bool accepted = verify(program, schedule, places).ok();
      EXPECT_TRUE(result.ok() || !accepted) << name << ", " << places << " places: " << result.text();
      if (!result.ok()) ++too_small;
    }
  });
  EXPECT_GT(too_small, 10);  // else the places were no limit
}

// --- What it looks like ---

Schedule two_ranks() {
  return schedule_of(Placement::loop(2, 1, 2), {"0F0,0F1,0B0,0B1",  //
                                                "1F0,1F1,1B0,1B1"});
}

Instruction& find(Program& program, const Schedule& schedule, int rank, const std::string& text) {
  for (Instruction& one : program.ranks[rank]) {
    if (to_string(one, schedule.actions[rank]) == text) return one;
  }
  throw std::invalid_argument("no " + text);
}

TEST(LoweredProgramTest, SwappedReceivesDeliverTheWrongMessage) {
  const Schedule schedule = two_ranks();
  Program program = lower(schedule, {.receive_buffers = 2});
  std::swap(find(program, schedule, 1, "1RECV_F0"), find(program, schedule, 1, "1RECV_F1"));
  const RunResult result = run(program, schedule);
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(result.errors,
            (std::vector<std::string>{"rank 1: 1F0 expected the output of 0F0, found the output of 0F1",
                                      "rank 1: 1F1 expected the output of 0F1, found the output of 0F0"}));
  EXPECT_EQ(verify(program, schedule).diagnostics.at(0).rule, Rule::kChannel);
}

TEST(LoweredProgramTest, ReceivesInOneGroupHangWhereTheirSendsAreInNone) {
  const Schedule schedule = two_ranks();
  Program program = lower(schedule, {.receive_buffers = 2});
  find(program, schedule, 1, "1RECV_F0").group = find(program, schedule, 1, "1RECV_F1").group = 0;
  EXPECT_FALSE(run(program, schedule).finished);
  EXPECT_EQ(verify(program, schedule).diagnostics.at(0).rule, Rule::kGroup);
}

TEST(LoweredProgramTest, SendWithoutItsReceiveHangs) {
  const Schedule schedule = two_ranks();
  Program program = lower(schedule);
  program.ranks[0].push_back(find(program, schedule, 0, "0SEND_F1"));
  const RunResult result = run(program, schedule);
  EXPECT_EQ(result.stuck, std::vector<std::string>{"device 0: 0SEND_F1 waits for its peer"});
  EXPECT_EQ(verify(program, schedule).diagnostics.at(0).rule, Rule::kChannel);
}

TEST(LoweredProgramTest, SumBeforeTheLastGradientIsWrong) {
  const Schedule schedule = generate("dualpipe", {2, 4});
  Program program = lower(schedule);
  for (auto& list : program.ranks) {
    // The sums go to just before the last instruction that computes.
    const auto is_compute = [](const Instruction& one) { return one.op == Op::kCompute; };
    const auto last = std::find_if(list.rbegin(), list.rend(), is_compute).base() - 1;
    std::rotate(
        last,
        std::find_if(last, list.end(), [](const Instruction& one) { return one.op == Op::kReduceGradients; }),
        list.end());
  }
  const RunResult result = run_often(program, schedule, 50);
  EXPECT_FALSE(result.errors.empty());
  EXPECT_FALSE(verify(program, schedule).ok());
}

}  // namespace
}  // namespace counterflow
