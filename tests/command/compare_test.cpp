// The verb compare.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "counterflow/generate.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

nlohmann::json compare_json(std::vector<std::string> options) {
  options.insert(options.begin(), {"compare", "--json"});
  const CommandResult result = run_command(options);
  EXPECT_EQ(result.status, 0) << result.err;
  return nlohmann::json::parse(result.out);
}

nlohmann::json row(const nlohmann::json& json, const std::string& name) {
  for (const auto& one : json["rows"]) {
    if (one["name"] == name) return one;
  }
  return nullptr;
}

TEST(CompareCommandTest, MeasuresAllInSharesOfTheModel) {
  const auto json = compare_json({"--ranks", "4", "--micro-batches", "8"});
  EXPECT_EQ(row(json, "dualpipe")["makespan"], 26);
  EXPECT_EQ(row(json, "zbv")["makespan"], 25.5);
  EXPECT_EQ(row(json, "1f1b")["makespan"], 33);
  EXPECT_TRUE(row(json, "1f1b")["makespan"].is_number_integer());
  EXPECT_EQ(row(json, "dualpipe")["parameters"], 2);
  EXPECT_EQ(row(json, "zbv")["parameters"], 1);
  EXPECT_EQ(row(json, "zbv")["stages_per_rank"], 2);
  EXPECT_EQ(row(json, "zbv")["peak_activations"], 4);
  EXPECT_EQ(row(json, "v-half")["peak_activations"], 3);
  EXPECT_EQ(row(json, "v-min")["peak_activations"], 2);
  double last = 0;
  for (const auto& one : json["rows"]) {
    EXPECT_GE(one["makespan"], last);
    last = one["makespan"];
  }
}

TEST(CompareCommandTest, PrintsATableAndWhatIsLeftOut) {
  const CommandResult result = run_command({"compare", "--ranks", "8", "--micro-batches", "8"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  for (const Generator* generator : all_generators())
    EXPECT_NE(result.out.find("\n  " + std::string(generator->name) + " "), std::string::npos)
        << generator->name;
  EXPECT_NE(
      result.out.find("  1f1b                           45      21  46.7 %                 8          1x"),
      std::string::npos)
      << result.out;
  const std::size_t left_out = result.out.find("\n  left out");
  ASSERT_NE(left_out, std::string::npos);
  EXPECT_NE(
      result.out.find("dualpipe    needs ranks even, micro-batches even and at least 2 x ranks", left_out),
      std::string::npos)
      << result.out;
}

TEST(CompareCommandTest, LeavesOutWhatHoldsTooManyActivations) {
  const auto json = compare_json({"--ranks", "4", "--micro-batches", "8", "--max-activations", "4"});
  EXPECT_TRUE(row(json, "dualpipe").is_null());
  EXPECT_FALSE(row(json, "zbv").is_null());
  bool said = false;
  for (const auto& skip : json["skipped"]) {
    if (skip["name"] != "dualpipe") continue;
    EXPECT_EQ(skip["why"], "holds 5 activations of a share, more than 4");
    said = true;
  }
  EXPECT_TRUE(said);
}

TEST(CompareCommandTest, SaysWhatFitsTheMemory) {
  const TemporaryFolder folder;
  const std::string costs = folder.write(
      "costs.json",
      R"({"stages": {"f": 1, "i": 1, "w": 1, "activation_bytes": 10, "weight_store_bytes": 10, "output_bytes": 1,
          "parameter_bytes": 100, "gradient_bytes": 100, "optimizer_bytes": 300}, "memory_bytes": 800})");
  const auto json = compare_json({"--ranks", "4", "--micro-batches", "8", "--cost-file", costs});
  EXPECT_EQ(row(json, "dualpipe")["static_bytes"], 1000);
  EXPECT_EQ(row(json, "dualpipe")["fits_memory"], false);
  EXPECT_EQ(row(json, "zbv")["static_bytes"], 500);
  EXPECT_EQ(row(json, "zbv")["fits_memory"], true);
  const CommandResult roomy = run_command(
      {"compare", "--ranks", "4", "--micro-batches", "8", "--cost-file", costs, "--memory", "2KiB"});
  EXPECT_NE(roomy.out.find("memory of a rank: 2.00 KiB"), std::string::npos) << roomy.out;
  EXPECT_EQ(roomy.out.find("  no\n"), std::string::npos) << roomy.out;
}

TEST(CompareCommandTest, SaysThatMemoryWithoutBytesHoldsNothing) {
  for (const char* verb : {"compare", "search"}) {
    std::vector<std::string> arguments = {verb, "--ranks", "2", "--micro-batches", "4", "--memory", "1KiB"};
    if (*verb == 's') arguments.insert(arguments.end(), {"--rounds", "0"});
    const CommandResult result = run_command(arguments);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(
        result.out.find("memory of a rank: 1.00 KiB; the costs have no bytes, so that everything fits\n"),
        std::string::npos)
        << result.out;
  }
}

TEST(CompareCommandTest, RefusesMemoryThatIsNoNumber) {
  for (const char* memory : {"much", "80GB", "-1", "9999999TiB", ""}) {
    const CommandResult result =
        run_command({"compare", "--ranks", "4", "--micro-batches", "8", "--memory", memory});
    EXPECT_EQ(result.status, *memory == '\0' ? 0 : 2) << memory;
    EXPECT_EQ(result.err.empty(), *memory == '\0') << memory;
  }
}

TEST(CompareCommandTest, TriesTheStagesThatAreAskedFor) {
  const auto stages_of = [](const char* range) {
    const auto json = compare_json({"--ranks", "4", "--micro-batches", "8", "--stages-per-rank", range});
    std::set<int> stages;
    for (const auto& one : json["rows"]) {
      if (one["name"] == "interleaved-1f1b") stages.insert(one["stages_per_rank"].get<int>());
    }
    return stages;
  };
  EXPECT_EQ(stages_of("2,4"), (std::set<int>{2, 4}));
  EXPECT_EQ(stages_of("2-4"), (std::set<int>{2, 3, 4}));
  EXPECT_EQ(stages_of("3"), std::set<int>{3});
  const CommandResult wrong =
      run_command({"compare", "--ranks", "4", "--micro-batches", "8", "--stages-per-rank", "4-2"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_EQ(
      wrong.err,
      "counterflow: --stages-per-rank: expected at most 64 numbers or ranges like 2,4-6, found \"4-2\"\n");
}

}  // namespace
}  // namespace counterflow::testing
