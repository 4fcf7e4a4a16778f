#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "counterflow/format.h"
#include "counterflow/simulate.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

TEST(SearchCommandTest, WritesAScheduleThatTakesWhatItSays) {
  const TemporaryFolder folder;
  const CommandResult result = run_shell(
      "counterflow search --ranks 2 --micro-batches 4 --placement v --cost f=2,i=2,w=2,fb=5 "
      "--max-activations 5 --json -o best.csv",
      folder.path());
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["makespan"], 47);
  EXPECT_EQ(json["lower_bound"], 47);
  EXPECT_EQ(json["gap"], 0);
  EXPECT_EQ(json["name"], "search-v");
  const Schedule schedule = read_file(folder.path() + "/best.csv");
  EXPECT_EQ(simulate(schedule, parse_uniform_cost("f=2,i=2,w=2,fb=5")).makespan, 47);
}

TEST(SearchCommandTest, PrintsWhyTheWinnerWon) {
  const CommandResult result =
      run_command({"search", "--ranks", "4", "--micro-batches", "8", "--rounds", "0"});
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(result.out.find("beats"), std::string::npos) << result.out;
}

TEST(SearchCommandTest, EveryPointOfAFrontierIsAFileThatVerifies) {
  const TemporaryFolder folder;
  const CommandResult result = run_shell(
      "counterflow search --pareto --ranks 4 --micro-batches 6 --cost f=4,i=4,w=4,fb=11 --rounds 1 --limits "
      "4 "
      "--json -o found && counterflow verify found/*.csv",
      folder.path());
  EXPECT_EQ(result.status, 0) << result.out;
  EXPECT_EQ(result.err, "");
  EXPECT_NE(read_whole(folder.path() + "/found/frontier.svg").find("<svg"), std::string::npos);
  const std::size_t end = result.out.find("\n}\n") + 3;
  const auto points = nlohmann::json::parse(result.out.substr(0, end))["frontier"];
  ASSERT_GE(points.size(), 3U);
  for (const auto& point : points) {
    const Schedule schedule = read_file(folder.path() + "/found/" + point["file"].get<std::string>());
    EXPECT_EQ(schedule.name, point["name"]);
  }
}

TEST(SearchCommandTest, TakesARangeOfStagesARank) {
  const auto stages_of = [](const char* range) {
    const CommandResult result = run_command({"search", "--ranks", "2", "--micro-batches", "4", "--placement",
                                              "loop", "--stages-per-rank", range, "--rounds", "0", "--json"});
    if (result.status != 0) return result.err;
    std::string stages;
    const auto json = nlohmann::json::parse(result.out);
    for (const auto& family : json["families"])
      stages += std::to_string(family["stages_per_rank"].get<int>()) + " ";
    return stages;
  };
  EXPECT_EQ(stages_of("2,4-5"), "2 4 5 ");
  EXPECT_EQ(stages_of("3"), "3 ");
  for (const char* wrong : {"", "0", "3-2", "2,", "a", "1-1000", "1-60,1-60", "-1", "2-", "99999999999"}) {
    EXPECT_EQ(stages_of(wrong),
              "counterflow: --stages-per-rank: expected at most 64 numbers or ranges like 2,4-6, found \"" +
                  std::string(wrong) + "\"\n");
  }
}

TEST(SearchCommandTest, StoppedEarlyGivesTheBestSoFar) {
  // `timeout` sends its signal twice in a row: to the command and to the process group.
  const CommandResult result =
      run_shell("timeout --preserve-status --signal=INT 3 \"" COUNTERFLOW_COMMAND
                "\" search --ranks 6 --micro-batches 30 --cost f=4,i=5,w=3,fb=11 --seconds 500");
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(result.out.find("makespan"), std::string::npos) << result.err;
}

TEST(SearchCommandTest, SplitsLayersIntoStages) {
  const TemporaryFolder folder;
  folder.write("layers.json", R"({"layers": {"f": [9, 2, 2, 2, 2, 2], "i": [3, 2, 2, 2, 2, 2], "w": 2}})");
  const CommandResult result = run_shell(
      "counterflow search --ranks 2 --micro-batches 8 --placement one --cost-file layers.json --rounds 4 "
      "--json",
      folder.path());
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["families"][0]["layers"], nlohmann::json({2, 4}));
  const CommandResult simulated = run_shell(
      "counterflow generate 1f1b --ranks 2 --micro-batches 8 | counterflow simulate - --cost-file "
      "layers.json",
      folder.path());
  EXPECT_EQ(simulated.status, 2);
  EXPECT_EQ(
      simulated.err,
      "counterflow: costs: expected those of stages, found those of layers; `search` makes stages of them\n");
}

TEST(SearchCommandTest, SaysWhyNothingFits) {
  const CommandResult result = run_command(
      {"search", "--ranks", "4", "--micro-batches", "8", "--placement", "v", "--max-activations", "1"});
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err,
            "counterflow: no schedule fits: v: rank 0 holds at least 2 stage activations, more than 1\n");
}

}  // namespace
}  // namespace counterflow::testing
