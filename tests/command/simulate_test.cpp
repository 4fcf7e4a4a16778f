// The verb simulate.
#include "counterflow/simulate.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

std::string dualpipe(int ranks, int micro_batches) {
  return format(generate("dualpipe", {ranks, micro_batches}));
}

nlohmann::json simulate_json(std::vector<std::string> options, const std::string& schedule) {
  options.insert(options.begin(), {"simulate", "-", "--json"});
  const CommandResult result = run_command(options, schedule);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  return nlohmann::json::parse(result.out);
}

TEST(SimulateCommandTest, PrintsATableOfTheRanks) {
  const CommandResult result = run_command(
      {"simulate", "-", "--cost", "f=1,i=1,w=1,fb=2", "--p2p", "1", "--critical-path"}, dualpipe(4, 8));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, read_whole(COUNTERFLOW_TEST_DATA "/command/simulate.txt"));
}

TEST(SimulateCommandTest, PrintsWhatTheBytesComeTo) {
  const TemporaryFolder folder;
  const std::string costs = folder.write(
      "costs.json",
      R"({"stages": {"f": 2, "i": 2, "w": [1, 1, 1, 3], "activation_bytes": 1048576, "output_bytes": 512,
          "parameter_bytes": 1000, "gradient_bytes": 1000, "optimizer_bytes": 3000}})");
  const CommandResult result = run_command({"simulate", "-", "--cost-file", costs}, dualpipe(4, 8));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("5.00 MiB         9.77 KiB"), std::string::npos) << result.out;
}

TEST(SimulateCommandTest, JsonHasEveryFigure) {
  const auto json = simulate_json({"--cost", "f=1,i=1,w=1,fb=2"}, dualpipe(8, 20));
  EXPECT_EQ(json["makespan"], 52);
  EXPECT_EQ(json["bubble"], 3);
  EXPECT_EQ(json["bubble_ratio"], 18.0 / (8 * 52));
  ASSERT_EQ(json["ranks"].size(), 8);
  const std::vector<int> idle = {1, 2, 3, 3, 3, 3, 2, 1};
  for (int rank = 0; rank < 8; ++rank) {
    EXPECT_EQ(json["ranks"][rank]["rank"], rank);
    EXPECT_EQ(json["ranks"][rank]["idle"], idle[rank]);
    EXPECT_EQ(json["ranks"][rank]["busy"], 52 - idle[rank]);
    EXPECT_EQ(json["ranks"][rank]["peak_activations"], 9);
  }
}

TEST(SimulateCommandTest, JsonHasIdleWithinTheSpan) {
  const auto json = simulate_json({}, dualpipe(8, 20));
  std::vector<int> span_idle;
  for (const auto& rank : json["ranks"]) span_idle.push_back(rank["span_idle"]);
  EXPECT_EQ(span_idle, (std::vector<int>{6, 5, 4, 3, 3, 4, 5, 6}));
}

TEST(SimulateCommandTest, TheCriticalPathAndItsSharesSumUpToTheMakespan) {
  const auto json = simulate_json({"--p2p", "1"}, dualpipe(8, 20));
  EXPECT_EQ(json["makespan"], 94);
  int shares = 0;
  for (const auto& rank : json["ranks"]) shares += rank["critical"].get<int>();
  for (const auto& channel : json["channels"]) shares += channel["critical"].get<int>();
  EXPECT_EQ(shares, 94);
  EXPECT_EQ(json["critical_path"].front()["start"], 0);
  EXPECT_EQ(json["critical_path"].back()["end"], 94);
}

TEST(SimulateCommandTest, ReadsACostFile) {
  const TemporaryFolder folder;
  const CostModel costs{parse_uniform_cost("f=5,i=6,w=4,fb=15"), 0};
  const std::string path = folder.write("costs.json", format_cost_model(costs));
  EXPECT_EQ(simulate_json({"--cost-file", path}, dualpipe(8, 20))["makespan"], 336);
}

TEST(SimulateCommandTest, RefusesCostsOfAnotherNumberOfStages) {
  const TemporaryFolder folder;
  const std::string path = folder.write("costs.json", R"({"stages": {"f": [1, 2, 3], "i": 1, "w": 1}})");
  const CommandResult result = run_command({"simulate", "-", "--cost-file", path}, dualpipe(4, 8));
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err, "counterflow: costs: number of stages: expected 1 or 4, found 3\n");
}

// Work left out would make a schedule look faster than it is.
TEST(SimulateCommandTest, RefusesAScheduleThatLeavesOutWork) {
  const CommandResult result = run_command({"simulate", "-"}, "0F0,0F1,0B0\n1F0,1F1,1B0,1B1\n");
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err,
            "counterflow: -: missing-action: 0B1 never runs (and neither 0I1 nor 0W1): expected on rank 0 "
            "(`counterflow verify` shows all)\n");
}

TEST(SimulateCommandTest, RunsPyTorchsFiles) {
  EXPECT_EQ(simulate_json({}, "0F0,0F1,,,0B0,,0B1\n,1F0,1B0,,1F1,1B1\n")["makespan"], 9);
}

}  // namespace
}  // namespace counterflow::testing
