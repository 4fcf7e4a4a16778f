#include "counterflow/report.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "counterflow/format.h"
#include "counterflow/generate.h"

namespace counterflow {
namespace {

FileReport report_of(const std::string& file, const Schedule& schedule, const Limits& limits = {}) {
  FileReport report;
  report.file = file;
  report.schedule = schedule;
  report.judgement = judge(schedule, {}, UniformCost{}, limits);
  return report;
}

/// A file that keeps everything, one whose rank 2 lacks its last action and one that cannot be read.
std::vector<FileReport> three_files() {
  Schedule broken = generate("dualpipe", {4, 8});
  broken.actions[2].pop_back();
  std::vector<FileReport> files = {report_of("good.csv", generate("dualpipe", {4, 8})),
                                   report_of("broken.csv", broken), FileReport{}};
  files[1].rank_lines = {8, 9, 10, 11};
  files[2].file = "bad,\"<&>.csv";
  files[2].error = "bad.csv:3:5: expected 100%, found \"<\"\nnothing";
  files[2].error_line = 3;
  files[2].error_column = 5;
  return files;
}

TEST(ReportTest, TextHasALineForAGoodFileAndTheGridForABadOne) {
  const std::string text = report_text(three_files());
  EXPECT_TRUE(
      text.starts_with("good.csv: ok: dualpipe, 4 ranks x 8 micro-batches: makespan 26, bubble 2 (7.7 %), "
                       "peak 5 activations\nbroken.csv: 1 error: dualpipe, 4 ranks x 8 micro-batches\n"))
      << text;
  EXPECT_NE(text.find("missing-action: "), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("bad,\"<&>.csv: not readable\n")) << text;
}

TEST(ReportTest, JsonHasEveryDiagnosticAndFigure) {
  const auto json = nlohmann::json::parse(report_json(three_files()));
  EXPECT_EQ(json["ok"], false);
  ASSERT_EQ(json["files"].size(), 3);
  const auto& good = json["files"][0];
  EXPECT_EQ(good["ok"], true);
  EXPECT_EQ(good["makespan"], 26);
  EXPECT_EQ(good["bubble"], 2);
  EXPECT_EQ(good["peak_activations"], 5);
  EXPECT_EQ(good["bubble_ratio"], 2.0 / 26.0);
  const auto& broken = json["files"][1];
  EXPECT_EQ(broken["num_diagnostics"], 1);
  EXPECT_EQ(broken["diagnostics"][0]["rule"], "missing-action");
  EXPECT_FALSE(broken.contains("makespan"));
  EXPECT_EQ(json["files"][2]["error"], "bad.csv:3:5: expected 100%, found \"<\"\nnothing");
}

TEST(ReportTest, JUnitCountsFailuresAndErrorsAndEscapes) {
  const std::string text = report_junit(three_files());
  EXPECT_NE(text.find("<testsuite name=\"counterflow\" tests=\"3\" failures=\"1\" errors=\"1\">"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("name=\"good.csv\"/>"), std::string::npos) << text;
  EXPECT_NE(text.find("<failure type=\"missing-action\" message=\""), std::string::npos) << text;
  EXPECT_NE(text.find("name=\"bad,&quot;&lt;&amp;&gt;.csv\">"), std::string::npos) << text;
  EXPECT_NE(text.find("<error message=\"bad.csv:3:5: expected 100%, found &quot;&lt;&quot;"),
            std::string::npos)
      << text;
}

TEST(ReportTest, GithubAnnotatesTheLineOfTheRank) {
  std::vector<FileReport> files = three_files();
  files[1].judgement.verdict.diagnostics[0].rank = 2;
  const std::string text = report_github(files);
  EXPECT_NE(text.find("::error file=broken.csv,line=10,title=counterflow missing-action::"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("::error file=bad%2C\"<&>.csv,line=3,col=5,title=counterflow unreadable::"
                      "bad.csv:3:5: expected 100%25, found \"<\"%0Anothing\n"),
            std::string::npos)
      << text;
}

// A schedule's file, and its name in a repository, may come from anyone who opens a pull request.
TEST(ReportTest, NamesAreNoCommandsToTerminalsAndCi) {
  Schedule schedule = generate("gpipe", {2, 2});
  schedule.name = "a\xff\033[2J\xc2\x9b\n::stop-commands::x\xc3\xa9";
  const std::vector<FileReport> files = {report_of("b\n::error::\xff.csv", schedule)};
  const std::string line =
      "b?::error::\xef\xbf\xbd.csv: ok: a\xef\xbf\xbd?[2J??::stop-commands::x\xc3\xa9, 2 ranks x 2 "
      "micro-batches: "
      "makespan 9, bubble 3 (33.3 %), peak 2 activations\n";
  EXPECT_EQ(report_text(files), line);
  EXPECT_EQ(report_github(files), line);
  EXPECT_NE(report_junit(files).find("name=\"b\n::error::\xef\xbf\xbd.csv\""), std::string::npos)
      << report_junit(files);
}

TEST(PrintableTest, KeepsUtf8AndNothingElse) {
  for (const char* kept : {"", "dualpipe 8x20", "\xc2\xa0", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    EXPECT_EQ(printable(kept), kept);
  // Alone, cut off, too long, surrogates, beyond Unicode, and what XML leaves out.
  for (const std::string bad : {"\x80", "\xc3", "\xe2\x82", "\xc0\x80", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",
                                "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8", "\xef\xbf\xbe"}) {
    std::string expected;
    for (std::size_t i = 0; i < bad.size(); ++i) expected += "\xef\xbf\xbd";
    EXPECT_EQ(printable(bad + "a"), expected + "a");
  }
  EXPECT_EQ(printable(std::string(4096, 'a')), std::string(4096, 'a'));
  EXPECT_EQ(printable(std::string(1 << 20, 'a')), std::string(4096, 'a') + "...");
}

TEST(ReportTest, JudgesAFileAndFindsTheLinesOfItsRanks) {
  const std::string path = ::testing::TempDir() + "/report_test.csv";
  Schedule schedule = generate("dualpipe", {2, 4});
  schedule.claims = {{0, UniformCost{}}};
  const std::string text = format(schedule);
  const auto header = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) - 2;
  write_file(path, text);
  const FileReport report = judge_file(path, {}, UniformCost{}, {});
  EXPECT_TRUE(report.ok()) << *report.error;
  EXPECT_EQ(report.schedule, schedule);
  EXPECT_EQ(report.rank_lines, (std::vector<std::size_t>{header + 1, header + 2}));
  std::filesystem::remove(path);
}

TEST(ReportTest, AFileThatIsNotThereIsReported) {
  const FileReport report = judge_file("/no/such/file.csv", {}, UniformCost{}, {});
  EXPECT_FALSE(report.ok());
  EXPECT_EQ(report.error_line, 0);
  EXPECT_NE(report.error->find("/no/such/file.csv"), std::string::npos);
}

}  // namespace
}  // namespace counterflow
