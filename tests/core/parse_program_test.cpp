// Programs that are read from lowered schedules' files, and what verify() says of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/program.h"
#include "counterflow/verify.h"
#include "fake_nccl/program_run.h"
#include "generated_sizes.h"

namespace counterflow {
namespace {

using Cells = std::vector<std::vector<std::string>>;  // [rank][cell]

const std::string kTwoRanks =
    "# counterflow schedule v1\n# ranks: 2\n# stages: 2\n# micro-batches: 2\n"
    "# direction: micro-batches 0-1 on ranks 0-1\n";

std::string header_of(const Schedule& schedule) {
  std::string text = format(schedule);
  std::size_t end = 0;
  while (text[end] == '#') end = text.find('\n', end) + 1;
  return text.substr(0, end);
}

Cells cells_of(const Program& program, const Schedule& schedule) {
  Cells cells;
  for (std::size_t rank = 0; rank < program.ranks.size(); ++rank) {
    cells.emplace_back();
    for (const Instruction& one : program.ranks[rank])
      cells.back().push_back(to_string(one, schedule.actions[rank]));
  }
  return cells;
}

std::string text_of(const Schedule& schedule, const Cells& cells) {
  std::string text = header_of(schedule);
  for (const auto& rank : cells) {
    for (const std::string& cell : rank) text += cell + ",";
    text += "\n";
  }
  return text;
}

/// "RULE: rank N: message" of the first diagnostic, or "ok".
std::string judgement_of(const std::string& text) {
  const Schedule schedule = parse(text);
  const std::optional<Program> program = parse_program(text, schedule);
  if (!program) return "no program";
  const Verdict verdict = verify(*program, schedule);
  if (verdict.ok()) return "ok";
  const Diagnostic& first = verdict.diagnostics.front();
  return std::string(rule_name(first.rule)) + ": rank " + std::to_string(first.rank) + ": " + first.message;
}

TEST(ParseProgramTest, ReadsEveryGeneratorsBackAsItWasLowered) {
  int programs = 0;
  for (const Generator* generator : all_generators()) {
    for (const Size& size : large_sizes(*generator)) {
      const Schedule training = generate(*generator, size);
      for (const Schedule& schedule : {training, forward_only(training)}) {
        for (const LowerOptions& options : {LowerOptions{}, LowerOptions{.receive_buffers = 5}}) {
          const Program program = lower(schedule, options);
          const std::string text = text_of(schedule, cells_of(program, schedule));
          if (text.find("SEND_") == std::string::npos) continue;  // one rank
          const std::optional<Program> read = parse_program(text, parse(text));
          ASSERT_TRUE(read) << generator->name;
          ASSERT_TRUE(read->channels == program.channels) << generator->name;
          ASSERT_TRUE(read->reductions == program.reductions) << generator->name;
          ASSERT_TRUE(read->ranks == program.ranks) << generator->name;
          ++programs;
        }
      }
    }
  }
  EXPECT_GT(programs, 50);
}

TEST(ParseProgramTest, PyTorchsOwnLoweringVerifies) {
  for (const char* name : {"zbv_2x4.csv", "dualpipe-v_2x4.csv"}) {
    const std::filesystem::path path = std::filesystem::path(COUNTERFLOW_TEST_DATA) / "torch_lowered" / name;
    std::ifstream in(path);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(judgement_of(text), "ok") << name;
  }
}

TEST(ParseProgramTest, AScheduleWithoutTransfersHasNoProgram) {
  EXPECT_EQ(judgement_of(format(generate("dualpipe", {4, 8}))), "no program");
  Schedule named = generate("dualpipe", {4, 8});
  named.name = "SEND_F0,RECV_F0";
  EXPECT_EQ(judgement_of(format(named)), "no program");
  EXPECT_EQ(judgement_of("0UNSHARD,0F0,0B0,0REDUCE_GRAD\n1UNSHARD,1F0,1B0,1REDUCE_GRAD\n"), "no program");
}

TEST(ParseProgramTest, SaysWhichReceiveIsMissing) {
  EXPECT_EQ(judgement_of(kTwoRanks + "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
                                     "1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n"),
            "ok");
  EXPECT_EQ(judgement_of(kTwoRanks + "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
                                     "1RECV_F0,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n"),
            "channel: rank 1: 1F1 needs the message of 0SEND_F1, which is not received before it");
}

TEST(ParseProgramTest, SaysWhichSendIsMissingOrElsewhere) {
  EXPECT_EQ(judgement_of(kTwoRanks + "0F0,0SEND_F0,0F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
                                     "1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n"),
            "channel: rank 1: expected 1 receives from rank 0, found 2");
  EXPECT_EQ(judgement_of(kTwoRanks + "0F0,0SEND_F0,0F1,1SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
                                     "1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n"),
            "channel: rank 0: 1SEND_F1 is of no message or sum of gradients that this rank has part in");
  EXPECT_EQ(judgement_of(kTwoRanks + "0F0,0SEND_F0,0F1,0SEND_F2147483647,0RECV_B0,0B0,0RECV_B1,0B1\n"
                                     "2147483647RECV_B0,1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1\n"),
            "channel: rank 0: 0SEND_F2147483647 is of no message or sum of gradients that this rank has part "
            "in");
}

// The channel is first in, first out: 0F0's output stands behind that of 0F1, which runs after 0B0, which
// needs what becomes of 0F0's output.
TEST(ParseProgramTest, ARendezvousThatIsNeverMetIsADeadlock) {
  const std::string good = kTwoRanks +
                           "0RECV_B0,0F0,0SEND_F0,0B0,0F1,0SEND_F1,0RECV_B1,0B1\n"
                           "1RECV_F0,1RECV_F1,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n";
  const std::string bad = kTwoRanks +
                          "0RECV_B0,0F0,0B0,0F1,0SEND_F1,0SEND_F0,0RECV_B1,0B1\n"
                          "1RECV_F1,1RECV_F0,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n";
  EXPECT_EQ(judgement_of(good), "ok");
  EXPECT_EQ(parse(good).actions, parse(bad).actions);
  EXPECT_EQ(judgement_of(bad), "deadlock: rank 0: stops at 0RECV_B0");
}

TEST(ParseProgramTest, CopiesThatAreNotSummedAlikeAreRejected) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  Cells cells = cells_of(lower(schedule), schedule);
  ASSERT_EQ(cells[0].back(), "3REDUCE_GRAD");
  cells[0].pop_back();
  EXPECT_EQ(judgement_of(text_of(schedule, cells)),
            "channel: rank 0: stage 3 lives on several ranks and is not reduced");
  std::swap(cells[0].back(), cells[0][cells[0].size() - 2]);
  cells[0].emplace_back("3REDUCE_GRAD");
  EXPECT_EQ(judgement_of(text_of(schedule, cells)).substr(0, 17), "channel: rank 0: ");
}

// Every transfer dropped, and every one swapped with its neighbour: what verify() says, a run on the fake of
// NCCL says too.
TEST(ParseProgramTest, BrokenFilesAreJudgedAsTheyRun) {
  int good = 0;
  int bad = 0;
  for (const auto& [name, size] :
       {std::pair{"dualpipe", Size{2, 4}}, {"zbv", Size{2, 4}}, {"1f1b", Size{3, 4}}}) {
    const Schedule schedule = generate(name, size);
    const Cells cells = cells_of(lower(schedule, {.receive_buffers = 3}), schedule);
    const auto judge = [&](const Cells& mutant, const std::string& what) {
      const std::string text = text_of(schedule, mutant);
      const Program program = parse_program(text, schedule).value();
      const bool ok = verify(program, schedule).ok();
      ++(ok ? good : bad);
      EXPECT_EQ(fake_nccl::run(program, schedule).ok(), ok) << name << ": " << what;
    };
    for (std::size_t rank = 0; rank < cells.size(); ++rank) {
      for (std::size_t at = 0; at < cells[rank].size(); ++at) {
        const auto is_transfer = [&](std::size_t i) {
          return cells[rank][i].find('_') != std::string::npos &&
                 cells[rank][i].find('(') == std::string::npos;
        };
        const std::string what = "rank " + std::to_string(rank) + ", cell " + std::to_string(at);
        Cells mutant = cells;
        if (is_transfer(at)) {
          mutant[rank].erase(mutant[rank].begin() + static_cast<std::ptrdiff_t>(at));
          judge(mutant, what + " dropped");
        }
        if (at + 1 == cells[rank].size() || !(is_transfer(at) || is_transfer(at + 1))) continue;
        mutant = cells;
        std::swap(mutant[rank][at], mutant[rank][at + 1]);
        judge(mutant, what + " swapped with the next");
      }
    }
  }
  EXPECT_GT(good, 50);
  EXPECT_GT(bad, 50);
}

TEST(ParseProgramTest, TakesTheScheduleOfTheSameTextAlone) {
  const std::string text = kTwoRanks +
                           "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1\n"
                           "1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1\n";
  EXPECT_THROW(parse_program(text, generate("gpipe", {2, 2})), InvalidConfig);
  EXPECT_THROW(parse_program(text, generate("1f1b", {4, 2})), InvalidConfig);
  Schedule wrong = parse(text);
  wrong.actions[0].pop_back();
  EXPECT_THROW(parse_program(text, wrong), InvalidConfig);
}

}  // namespace
}  // namespace counterflow
