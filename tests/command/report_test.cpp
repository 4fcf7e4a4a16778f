// The verb report, and render beside a recording.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/recording.h"
#include "counterflow/simulate.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

using nlohmann::json;

const Schedule& schedule() {
  static const Schedule made = generate("1f1b", {2, 4});
  return made;
}

/// As if a run had taken these microseconds, on stage 1 twice as long.
Timeline recorded() {
  CostModel costs;
  costs.stages = {{.f = 100, .i = 100, .w = 100}, {.f = 200, .i = 200, .w = 200}};
  costs.p2p = 10;
  Timeline run = make_timeline(schedule(), costs, simulate(schedule(), costs));
  run.unit_ns = 1000;
  return run;
}

class ReportCommandTest : public ::testing::Test {
 protected:
  ReportCommandTest() {
    schedule_ = folder_.write("1f1b.csv", format(schedule()));
    recording_ = folder_.write("run.json", format_recording(recorded()));
  }

  const std::string kTrace = COUNTERFLOW_TEST_DATA "/profile/overlap.json";
  TemporaryFolder folder_;
  std::string schedule_;
  std::string recording_;
};

TEST_F(ReportCommandTest, SaysWhereIdleTimeWent) {
  const CommandResult result = run_command(
      {"report", recording_, "--schedule", schedule_, "--cost", "f=100,i=100,w=100", "--p2p", "10"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, read_whole(COUNTERFLOW_TEST_DATA "/command/report.txt"));
}

TEST_F(ReportCommandTest, JsonHasEveryFigure) {
  const CommandResult result = run_command({"report", recording_, "--schedule", schedule_, "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const json report = json::parse(result.out);
  EXPECT_EQ(report["kind"], "recording");
  EXPECT_EQ(report["name"], "1f1b");
  EXPECT_EQ(report["span_us"], recorded().end());
  EXPECT_EQ(report["plan"]["costs"], "the run's mean times");
  const std::vector<RankSummary> summaries = summarize(recorded());
  for (int rank = 0; rank < 2; ++rank) {
    const json& one = report["ranks"][rank];
    EXPECT_EQ(one["busy_us"], summaries[rank].busy);
    EXPECT_EQ(one["idle_us"], summaries[rank].idle);
    EXPECT_EQ(one["waiting_for_peer_us"].get<double>() + one["transfer_us"].get<double>() +
                  one["launch_gap_us"].get<double>() + one["imbalance_us"].get<double>(),
              summaries[rank].idle);
  }
  EXPECT_GT(report["ranks"][0]["imbalance_us"], 0);
  EXPECT_EQ(report["ranks"][1]["imbalance_us"], 0);
  EXPECT_EQ(report["total"]["idle_us"], summaries[0].idle + summaries[1].idle);
}

TEST_F(ReportCommandTest, TakesCostsFromAFile) {
  const std::string costs = folder_.write("costs.json", R"({"stages": {"f": [100, 200], "i": [100, 200],
      "w": [100, 200]}, "p2p": 10})");
  const CommandResult result =
      run_command({"report", recording_, "--schedule", schedule_, "--cost-file", costs, "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const json report = json::parse(result.out);
  EXPECT_EQ(report["plan"]["span_us"], report["span_us"]);  // it went as planned
  EXPECT_EQ(report["plan"]["costs"], "costs of " + costs);
}

TEST_F(ReportCommandTest, ReadsAProfilersTrace) {
  const std::string costs = folder_.path() + "/costs.json";
  const CommandResult result = run_command({"report", kTrace, "--json", "--cost-output", costs});
  ASSERT_EQ(result.status, 0) << result.err;
  const json report = json::parse(result.out);
  EXPECT_EQ(report["span_us"], 380);
  EXPECT_EQ(report["compute_busy_us"], 330);
  EXPECT_EQ(report["communication_busy_us"], 220);
  EXPECT_EQ(report["communication_hidden_us"], 170);
  EXPECT_DOUBLE_EQ(report["communication_hidden_ratio"], 170.0 / 220);
  EXPECT_EQ(report["chunks"]["forward"]["busy_us"], 200);
  EXPECT_EQ(report["chunks"]["pair_us"], 380);
  EXPECT_EQ(json::parse(read_whole(costs))["unit"], "us");
  EXPECT_EQ(run_command({"simulate", schedule_, "--cost-file", costs}).status, 0);
  const CommandResult text = run_command({"report", "-"}, read_whole(kTrace));
  EXPECT_NE(text.out.find("77.3 % of it hidden behind compute"), std::string::npos) << text.out;
}

TEST_F(ReportCommandTest, RefusesWhatItCannotReport) {
  const auto error_of = [](const std::vector<std::string>& arguments, const std::string& input = "") {
    const CommandResult result = run_command(arguments, input);
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  EXPECT_NE(error_of({"report", recording_}).find("--schedule: expected the schedule"), std::string::npos);
  EXPECT_NE(error_of({"report", kTrace, "--schedule", schedule_}).find("leave them out"), std::string::npos);
  EXPECT_NE(error_of({"report", "-"}, "hello").find("<stdin>:1:1"), std::string::npos);
  EXPECT_NE(error_of({"report", folder_.path() + "/none"}).find("cannot read"), std::string::npos);
  const std::string other = folder_.write("other.csv", format(generate("1f1b", {2, 5})));
  EXPECT_NE(
      error_of({"report", recording_, "--schedule", other}).find("give the schedule that the run followed"),
      std::string::npos);
  EXPECT_NE(
      error_of({"render", other, "--recording", recording_}).find("give the schedule that the run followed"),
      std::string::npos);
}

TEST_F(ReportCommandTest, RenderDrawsPlanAndRunAtOneScale) {
  const CommandResult text = run_command(
      {"render", schedule_, "--recording", recording_, "--cost", "f=100,i=100,w=100", "--p2p", "10"});
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_NE(text.out.find("1f1b, plan"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("1f1b, run"), std::string::npos);
  for (const char* ending : {"html", "svg", "json", "pftrace"}) {
    const std::string out = folder_.path() + "/both." + ending;
    EXPECT_EQ(run_command({"render", schedule_, "--recording", recording_, "-o", out}).status, 0) << ending;
    EXPECT_NE(read_whole(out).find("1f1b, run"), std::string::npos) << ending;
  }
  // One clock: a plan's microseconds are the run's.
  const std::string trace = folder_.path() + "/aligned.json";
  EXPECT_EQ(run_command(
                {"render", schedule_, "--recording", recording_, "--cost", "f=100,i=100,w=100", "-o", trace})
                .status,
            0);
  std::map<std::pair<int, std::string>, double> begins;
  const json events = json::parse(read_whole(trace))["traceEvents"];
  for (const json& event : events) {
    if (event["ph"] == "X")
      begins.emplace(std::pair(event["pid"].get<int>(), event["name"].get<std::string>()),
                     event["ts"].get<double>());
  }
  EXPECT_EQ(begins.at({1, "1F0"}), 100);
  EXPECT_EQ(begins.at({2, "1F0"}), 110);
}

}  // namespace
}  // namespace counterflow::testing
