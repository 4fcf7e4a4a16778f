// The verbs that make one text of another: diff, lower, convert, fold, unfold.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "counterflow/fold.h"
#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

TEST(DiffCommandTest, IsSilentAboutEqualSchedules) {
  const TemporaryFolder folder;
  const Schedule schedule = generate("zbv", {4, 8});
  folder.write("a.csv", format(schedule));
  folder.write("b.csv", format_torch(schedule));
  const CommandResult result = run_shell("counterflow diff a.csv b.csv", folder.path());
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "");
}

TEST(DiffCommandTest, ShowsTheFirstStepsThatDiffer) {
  const TemporaryFolder folder;
  Schedule schedule = generate("dualpipe", {4, 8});
  folder.write("mine.csv", format(schedule));
  schedule.actions[2].erase(schedule.actions[2].begin() + 4);
  std::swap(schedule.actions[3][0], schedule.actions[3][1]);
  folder.write("theirs.csv", format(schedule));
  const CommandResult result = run_shell("counterflow diff mine.csv - <theirs.csv", folder.path());
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, read_whole(COUNTERFLOW_TEST_DATA "/command/diff.txt"));
}

TEST(DiffCommandTest, ReadsStandardInputOnce) {
  const CommandResult result = run_command({"diff", "-", "-"}, "0F0,0B0\n");
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err, "counterflow: diff: expected at most one file to be standard input, found 2\n");
}

TEST(LowerCommandTest, PrintsTheProgramWithItsCommunicators) {
  const CommandResult result = run_command({"lower", "-"}, format(generate("dualpipe", {4, 8})));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, read_whole(COUNTERFLOW_TEST_DATA "/command/lower.txt"));
}

TEST(LowerCommandTest, ItsOutputReadsBackAsTheSchedule) {
  const Schedule schedule = generate("v-half", {4, 12});
  EXPECT_EQ(parse(run_command({"lower", "-"}, format(schedule)).out), schedule);
}

TEST(LowerCommandTest, WritesAFileWholeOrNotAtAll) {
  const TemporaryFolder folder;
  folder.write("in.csv", format(generate("dualpipe", {4, 8})));
  for (const std::string json : {"", " --json"}) {
    const CommandResult printed = run_shell("counterflow lower in.csv" + json, folder.path());
    const CommandResult written = run_shell("counterflow lower in.csv -o out" + json, folder.path());
    EXPECT_EQ(written.status, 0);
    EXPECT_EQ(written.out + written.err, "");
    EXPECT_EQ(read_whole(folder.path() + "/out"), printed.out);
  }
  // Onto the very file that it reads, and again where it cannot be lowered.
  EXPECT_EQ(run_shell("counterflow lower in.csv --output in.csv", folder.path()).status, 0);
  const std::string lowered = read_whole(folder.path() + "/in.csv");
  EXPECT_EQ(lowered, read_whole(COUNTERFLOW_TEST_DATA "/command/lower.txt"));
  EXPECT_EQ(run_shell("counterflow lower in.csv --receive-buffers 1 -o in.csv", folder.path()).status, 2);
  EXPECT_EQ(read_whole(folder.path() + "/in.csv"), lowered);
  EXPECT_EQ(run_shell("ls -A", folder.path()).out, "in.csv\nout\n");
  const CommandResult nowhere = run_shell("counterflow lower in.csv -o none/out.csv", folder.path());
  EXPECT_EQ(nowhere.status, 2);
  EXPECT_EQ(nowhere.err, "counterflow: cannot write none/out.csv: No such file or directory\n");
}

// Readers refuse a header that asks for more than a million cells with few actions below it.
TEST(LowerCommandTest, LowersMoreThanAMillionCells) {
  const CommandResult result = run_shell(
      "counterflow generate 1f1b --ranks 33 --micro-batches 32768 | counterflow lower - | sed -n 2p");
  EXPECT_EQ(result.out + result.err, "# name: 1f1b\n");
}

TEST(LowerCommandTest, JsonHasEveryInstruction) {
  const auto json =
      nlohmann::json::parse(run_command({"lower", "-", "--json"}, format(generate("dualpipe", {2, 4}))).out);
  ASSERT_EQ(json["channels"].size(), 2);
  EXPECT_EQ(json["channels"][0]["from"], 0);
  EXPECT_EQ(json["channels"][0]["to"], 1);
  EXPECT_EQ(json["channels"][0]["messages"], 4);
  EXPECT_EQ(json["reductions"][0]["ranks"], (std::vector<int>{0, 1}));
  ASSERT_EQ(json["ranks"].size(), 2);
  std::size_t sends = 0, receives = 0;
  for (const auto& rank : json["ranks"]) {
    for (const auto& one : rank) {
      sends += one["op"] == "SEND_F" || one["op"] == "SEND_B" ? 1 : 0;
      receives += one["op"] == "RECV_F" || one["op"] == "RECV_B" ? 1 : 0;
    }
    EXPECT_EQ(rank.back()["op"], "REDUCE_GRAD");
  }
  EXPECT_EQ(sends, 8);
  EXPECT_EQ(receives, 8);
}

TEST(LowerCommandTest, RefusesTooFewReceiveBuffers) {
  const std::string schedule = format(generate("dualpipe", {8, 20}));
  EXPECT_EQ(run_command({"lower", "-", "--receive-buffers", "2"}, schedule).status, 0);
  const CommandResult result = run_command({"lower", "-", "--receive-buffers", "1"}, schedule);
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err.find("counterflow: cannot lower dualpipe: receive-buffers: "), 0) << result.err;
}

TEST(ConvertCommandTest, WritesPyTorchsFile) {
  const TemporaryFolder folder;
  const Schedule schedule = generate("zbv", {4, 8});
  const std::string path = folder.path() + "/torch.csv";
  const CommandResult result = run_command({"convert", "-", "--to", "torch", "-o", path}, format(schedule));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(read_whole(path), format_torch(schedule));
  const CommandResult back = run_command({"convert", path, "--to", "counterflow"});
  EXPECT_EQ(parse(back.out).actions, schedule.actions);
  EXPECT_EQ(parse(back.out).placement, schedule.placement);
}

TEST(ConvertCommandTest, RefusesWhatPyTorchCannotExpress) {
  const CommandResult copies =
      run_command({"convert", "-", "--to", "torch"}, format(generate("dualpipe", {4, 8})));
  EXPECT_EQ(copies.status, 2);
  EXPECT_EQ(copies.out, "");
  EXPECT_EQ(copies.err,
            "counterflow: schedule for PyTorch: expected every stage on one rank, found stage 0 on ranks 0 "
            "and 3\n");
  const CommandResult evaluation =
      run_command({"convert", "-", "--to", "torch"}, format(forward_only(generate("1f1b", {2, 4}))));
  EXPECT_EQ(evaluation.status, 2);
  EXPECT_EQ(
      evaluation.err,
      "counterflow: schedule for PyTorch: expected forwards and backwards, found passes of forward only\n");
}

TEST(ConvertCommandTest, WritesJson) {
  const CommandResult result =
      run_command({"convert", "-", "--to", "json"}, format(generate("dualpipe", {2, 4})));
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["name"], "dualpipe");
  EXPECT_EQ(json["ranks"], 2);
  EXPECT_EQ(json["actions"][0][0], "0F0");
}

TEST(FoldCommandTest, FoldsAndUnfolds) {
  const CommandResult unfolded =
      run_command({"unfold", "-", "--name", "dualpipe"}, format(generate("dualpipe-v", {4, 10})));
  EXPECT_EQ(unfolded.status, 0) << unfolded.err;
  EXPECT_EQ(parse(unfolded.out), generate("dualpipe", {8, 20}));
  const CommandResult folded = run_command({"fold", "-", "--name", "dualpipe-v"}, unfolded.out);
  EXPECT_EQ(parse(folded.out), generate("dualpipe-v", {4, 10}));
}

TEST(FoldCommandTest, RefusesAnotherPlacement) {
  const CommandResult result = run_command({"fold", "-"}, format(generate("1f1b", {4, 8})));
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err.find("counterflow: fold: "), 0) << result.err;
}

}  // namespace
}  // namespace counterflow::testing
