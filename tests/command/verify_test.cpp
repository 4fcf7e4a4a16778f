// The verb verify.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

/// DualPipe at 4 x 8 whose rank 1 waits for rank 2 before it does what rank 2 waits for.
std::string deadlocked() {
  Schedule schedule = generate("dualpipe", {4, 8});
  auto& actions = schedule.actions[1];
  std::rotate(actions.begin(), actions.begin() + 1,
              actions.begin() + 6);  // its first forward after five others
  return format(schedule);
}

TEST(VerifyCommandTest, AcceptsEveryShippedSchedule) {
  std::vector<std::string> arguments = {"verify"};
  for (const auto& entry : std::filesystem::directory_iterator(COUNTERFLOW_SCHEDULES)) {
    if (entry.path().extension() == ".csv") arguments.push_back(entry.path().string());
  }
  ASSERT_GT(arguments.size(), 8);
  const CommandResult result = run_command(arguments);
  EXPECT_EQ(result.status, 0) << result.out << result.err;
  EXPECT_EQ(static_cast<std::size_t>(std::count(result.out.begin(), result.out.end(), '\n')),
            arguments.size() - 1);
}

TEST(VerifyCommandTest, DrawsTheGridWithTheCulpritMarked) {
  const CommandResult result = run_command({"verify", "-"}, deadlocked());
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, read_whole(COUNTERFLOW_TEST_DATA "/command/verify.txt"));
}

TEST(VerifyCommandTest, HoldsASchedulesTimesToLimits) {
  const std::string schedule =
      format(generate("dualpipe", {8, 20}));  // at fb=2: makespan 52, bubble 3, 18/416
  const auto verify = [&](const std::string& option, const std::string& limit) {
    return run_command({"verify", "-", "--cost", "f=1,i=1,w=1,fb=2", option, limit}, schedule);
  };
  EXPECT_EQ(verify("--max-makespan", "52").status, 0);
  EXPECT_EQ(verify("--max-makespan", "51").status, 1);
  EXPECT_EQ(verify("--max-bubble", "3").status, 0);
  EXPECT_EQ(verify("--max-bubble", "2").status, 1);
  EXPECT_EQ(verify("--max-bubble-ratio", "0.0433").status, 0);
  EXPECT_EQ(verify("--max-bubble-ratio", "0.0432").status, 1);
  EXPECT_EQ(verify("--max-activations", "9").status, 0);
  EXPECT_EQ(verify("--max-activations", "8").status, 1);
  EXPECT_NE(verify("--max-bubble", "2").out.find("limit: rank 2: bubble 3, at most 2 allowed\n"),
            std::string::npos);
}

TEST(VerifyCommandTest, HoldsAFileToItsClaims) {
  Schedule schedule = generate("dualpipe", {4, 8});
  schedule.claims = {{1, UniformCost{}}};
  const CommandResult result = run_command({"verify", "-"}, format(schedule));
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(
      result.out.find("claim: rank 0: claims a bubble of 1 under f=1,i=1,w=1, but rank 0 idles for 2\n"),
      std::string::npos)
      << result.out;
}

TEST(VerifyCommandTest, CountsReceiveBuffers) {
  const std::string schedule = format(generate("dualpipe", {8, 20}));
  EXPECT_EQ(run_command({"verify", "-", "--receive-buffers", "2"}, schedule).status, 0);
  const CommandResult result = run_command({"verify", "-", "--receive-buffers", "1"}, schedule);
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.out.find("receive-buffers: "), std::string::npos) << result.out;
}

TEST(VerifyCommandTest, AcceptsWhatLowerPrints) {
  const TemporaryFolder folder;
  for (const Generator* generator : all_generators()) {
    folder.write("schedule.csv", format(generate(*generator, {4, 8})));
    const CommandResult result =
        run_shell("counterflow lower schedule.csv | counterflow verify -", folder.path());
    EXPECT_EQ(result.status, 0) << generator->name << result.out << result.err;
    EXPECT_NE(result.out.find(", lowered: "), std::string::npos) << result.out;
  }
}

TEST(VerifyCommandTest, SaysWhatIsWrongWithALoweredFile) {
  const TemporaryFolder folder;
  folder.write("schedule.csv", format(generate("1f1b", {2, 2})));
  ASSERT_EQ(
      run_shell("counterflow lower schedule.csv | sed 's/1RECV_F1,//' >lowered.csv", folder.path()).status,
      0);
  const CommandResult text = run_shell("counterflow verify lowered.csv", folder.path());
  EXPECT_EQ(text.status, 1);
  EXPECT_EQ(text.out,
            "lowered.csv: 1 error: 1f1b, 2 ranks x 2 micro-batches: makespan 9, bubble 3 (33.3 %), peak 2 "
            "activations, lowered: 4 messages\n"
            "instruction  1    2         3         4         5    6         7\n"
            "rank 0       0F0  0SEND_F0  0F1       0SEND_F1  0B0  0RECV_B1  0B1\n"
            "rank 1       1F0  1B0       1SEND_B0 >1F1<      1B1  1SEND_B1\n\n"
            "channel: rank 1, instruction 4: 1F1 needs the message of 0SEND_F1, which is not received before "
            "it\n");
  const auto json =
      nlohmann::json::parse(run_shell("counterflow verify lowered.csv --format json", folder.path()).out);
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["files"][0]["num_diagnostics"], 0);
  EXPECT_EQ(json["files"][0]["program"]["num_diagnostics"], 1);
  EXPECT_EQ(json["files"][0]["program"]["diagnostics"][0]["rule"], "channel");
  const std::string github = run_shell("counterflow verify lowered.csv --format github", folder.path()).out;
  EXPECT_EQ(github.find("::error file=lowered.csv,line=11,title=counterflow channel::1F1 needs"), 0)
      << github;
  const std::string junit = run_shell("counterflow verify lowered.csv --format junit", folder.path()).out;
  EXPECT_NE(junit.find("<failure type=\"channel\" message=\"1F1 needs"), std::string::npos) << junit;
}

TEST(VerifyCommandTest, HoldsALoweredFileToItsReceiveBuffers) {
  const TemporaryFolder folder;
  folder.write("schedule.csv", format(generate("1f1b", {2, 4})));
  const auto verify = [&](const char* made, const char* allowed) {
    return run_shell(std::string("counterflow lower schedule.csv --receive-buffers ") + made +
                         " | counterflow verify - --receive-buffers " + allowed,
                     folder.path());
  };
  EXPECT_EQ(verify("3", "3").status, 0);
  const CommandResult more = verify("3", "2");
  EXPECT_EQ(more.status, 1);
  EXPECT_NE(
      more.out.find("receive-buffers: rank 0, instruction 2: 0RECV_B2 needs a buffer from 0 to 1, found 2"),
      std::string::npos)
      << more.out;
}

TEST(VerifyCommandTest, JudgesEveryFileAndEndsWithTheWorst) {
  const TemporaryFolder folder;
  const std::string good = folder.write("good.csv", format(generate("1f1b", {2, 4})));
  const std::string broken = folder.write("broken.csv", deadlocked());
  const std::string unreadable = folder.write("unreadable.csv", "0F0\nwhat\n");
  EXPECT_EQ(run_command({"verify", good}).status, 0);
  EXPECT_EQ(run_command({"verify", broken, good}).status, 1);
  const CommandResult result = run_command({"verify", unreadable, broken, good, "--format", "json"});
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err, "counterflow: " + unreadable +
                            ":2:1: expected an action such as 2F5 or (2F6;1B0)OVERLAP_F_B, found \"what\"\n");
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["ok"], false);
  ASSERT_EQ(json["files"].size(), 3);
  EXPECT_TRUE(json["files"][0].contains("error"));
  EXPECT_EQ(json["files"][1]["diagnostics"][0]["rule"], "deadlock");
  EXPECT_EQ(json["files"][1]["diagnostics"][0]["rank"], 1);
  EXPECT_EQ(json["files"][2]["ok"], true);
  EXPECT_EQ(json["files"][2]["makespan"], 15);
}

TEST(VerifyCommandTest, AnnotatesOnGithub) {
  const TemporaryFolder folder;
  Schedule schedule = generate("1f1b", {2, 4});
  schedule.actions[1].push_back(forward(1, 9));
  folder.write("broken.csv", format(schedule));
  const CommandResult result = run_shell("counterflow verify broken.csv --format github", folder.path());
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.out.find("::error file=broken.csv,line=8,title=counterflow unknown-action::"), 0)
      << result.out;
}

TEST(VerifyCommandTest, WritesJUnit) {
  const TemporaryFolder folder;
  folder.write("broken.csv", deadlocked());
  folder.write("good.csv", format(generate("1f1b", {2, 4})));
  const CommandResult result =
      run_shell("counterflow verify broken.csv good.csv --format junit", folder.path());
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.out.find("<testsuite name=\"counterflow\" tests=\"2\" failures=\"1\" errors=\"0\">"),
            std::string::npos)
      << result.out;
  // Well formed, as a reader of XML sees it, where there is one.
  folder.write("out.xml", result.out);
  const CommandResult checked = run_shell(
      "command -v python3 >/dev/null || exit 0; python3 -c 'import xml.etree.ElementTree as E; "
      "r = E.parse(\"out.xml\").getroot(); assert len(r.findall(\".//testcase\")) == 2; "
      "assert r.find(\".//failure\").get(\"type\") == \"deadlock\"'",
      folder.path());
  EXPECT_EQ(checked.status, 0) << checked.err;
}

TEST(VerifyCommandTest, CapsWhatItPrintsAndCountsTheRest) {
  Schedule schedule = generate("dualpipe", {8, 200});
  for (auto& actions : schedule.actions) actions.insert(actions.end(), actions.begin(), actions.begin() + 60);
  const CommandResult result = run_command({"verify", "-"}, format(schedule));
  EXPECT_EQ(result.status, 1);
  EXPECT_LT(result.out.size(), 20000);
  EXPECT_NE(result.out.find(" more\n"), std::string::npos);
}

}  // namespace
}  // namespace counterflow::testing
