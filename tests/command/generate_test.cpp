// The verbs list and generate.
#include "counterflow/generate.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "counterflow/format.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

TEST(ListCommandTest, NamesEveryGenerator) {
  const std::string text = run_command({"list"}).out;
  const auto json = nlohmann::json::parse(run_command({"list", "--json"}).out);
  std::string names;
  ASSERT_EQ(json.size(), all_generators().size());
  for (std::size_t i = 0; i < json.size(); ++i) {
    const Generator& generator = *all_generators()[i];
    EXPECT_EQ(json[i]["name"], generator.name);
    EXPECT_EQ(json[i]["copies"], generator.copies);
    EXPECT_EQ(json[i]["constraint"], generator.constraint);
    EXPECT_NE(text.find(std::string(generator.name) + "\n    " + std::string(generator.summary) + "\n"),
              std::string::npos)
        << text;
    names += std::string(generator.name) + "\n";
  }
  EXPECT_EQ(run_command({"list", "--names"}).out, names);
}

TEST(GenerateCommandTest, WritesTheLibrarysSchedule) {
  const CommandResult result = run_command({"generate", "dualpipe", "--ranks", "4", "--micro-batches", "8"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, format(generate("dualpipe", {4, 8})));
}

TEST(GenerateCommandTest, WritesToAFile) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/looped.csv";
  const CommandResult result = run_command({"generate", "interleaved-1f1b", "--ranks", "4", "--micro-batches",
                                            "8", "--stages-per-rank", "3", "-o", path});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(read_file(path), generate("interleaved-1f1b", {4, 8, 3}));
}

TEST(GenerateCommandTest, MakesEvaluationOfAnySchedule) {
  const CommandResult result =
      run_command({"generate", "zbv", "--ranks", "2", "--micro-batches", "4", "--forward-only"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("# passes: forward\n"), std::string::npos);
  EXPECT_EQ(parse(result.out), forward_only(generate("zbv", {2, 4})));
  EXPECT_EQ(run_command({"verify", "-"}, result.out).status, 0);
}

TEST(GenerateCommandTest, ClaimsTheBubbleThatTheScheduleHas) {
  const CommandResult result = run_command({"generate", "dualpipe", "--ranks", "8", "--micro-batches", "20",
                                            "--claim", "f=1,i=1,w=1,fb=2", "--claim", "f=5,i=6,w=4,fb=15"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(
      result.out.find("# claim: bubble 3 at f=1,i=1,w=1,fb=2\n# claim: bubble 36 at f=5,i=6,w=4,fb=15\n"),
      std::string::npos)
      << result.out;
}

TEST(GenerateCommandTest, NamesTheConstraintAndTheNearestSizes) {
  const CommandResult result = run_command({"generate", "dualpipe", "--ranks", "4", "--micro-batches", "7"});
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err,
            "counterflow: dualpipe: expected ranks even, micro-batches even and at least 2 x ranks, found 4 "
            "ranks x "
            "7 micro-batches; the nearest that work: 4 ranks x 8 micro-batches\n");
}

TEST(GenerateCommandTest, LeavesAFileAloneWhereItFails) {
  const TemporaryFolder folder;
  const std::string path = folder.write("kept.csv", "kept");
  EXPECT_EQ(run_command({"generate", "dualpipe", "--ranks", "3", "--micro-batches", "8", "-o", path}).status,
            2);
  EXPECT_EQ(read_whole(path), "kept");
}

TEST(GenerateCommandTest, SuggestsTheNearestName) {
  const CommandResult result = run_command({"generate", "dualpip", "--ranks", "4", "--micro-batches", "8"});
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err,
            "counterflow: no generator is named \"dualpip\"; the nearest name is dualpipe (`counterflow "
            "list` shows "
            "all)\n");
}

}  // namespace
}  // namespace counterflow::testing
