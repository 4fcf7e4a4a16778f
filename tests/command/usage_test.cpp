// Help, bad usage and bad input of every verb.
#include <gtest/gtest.h>

#include <algorithm>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/recording.h"
#include "counterflow/simulate.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

const std::vector<std::string> kVerbs = {"list",   "generate", "simulate", "verify",  "compare",
                                         "search", "diff",     "lower",    "convert", "fold",
                                         "unfold", "render",   "report"};

/// Bad usage and bad input: exit status 2, nothing on standard output, one line on standard error.
void expect_refused(const std::vector<std::string>& arguments, const std::string& message,
                    const std::string& input = "") {
  const CommandResult result = run_command(arguments, input);
  std::string line;
  for (const std::string& argument : arguments) line += " " + argument;
  SCOPED_TRACE("counterflow" + line);
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "counterflow: " + message + "\n");
}

TEST(UsageTest, HelpNamesEveryVerb) {
  const CommandResult result = run_command({"--help"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  for (const std::string& verb : kVerbs)
    EXPECT_NE(result.out.find("  " + verb + " "), std::string::npos) << verb;
}

TEST(UsageTest, EveryVerbsHelpFitsATerminal) {
  for (const std::string& verb : kVerbs) {
    const CommandResult result = run_command({verb, "--help"});
    EXPECT_EQ(result.status, 0) << verb;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100) << line;
  }
}

// What --help shows as an example must work as it stands.
TEST(UsageTest, EveryVerbsExampleRuns) {
  const TemporaryFolder folder;
  folder.write("dualpipe.csv", format(generate("dualpipe", {8, 20})));
  folder.write("zbv.csv", format(generate("zbv", {4, 8})));
  folder.write("mine.csv", format(generate("1f1b", {4, 8})));
  folder.write("theirs.csv", format(generate("1f1b", {4, 8})));
  folder.write("model.json", R"({"stages": {"f": 1, "i": 1, "w": 1}, "overlap": 2})");
  Timeline run =
      make_timeline(generate("dualpipe", {8, 20}), {}, simulate(generate("dualpipe", {8, 20}), {}));
  run.unit_ns = 1;
  folder.write("run.json", format_recording(run));
  for (const std::string& verb : kVerbs) {
    const std::string help = run_command({verb, "--help"}).out;
    const std::size_t example = help.find("Example:\n");
    ASSERT_NE(example, std::string::npos) << verb;
    const std::string line = help.substr(example + 9);
    EXPECT_EQ(line.find("  counterflow " + verb), 0) << line;
    const CommandResult result = run_shell(line, folder.path());
    EXPECT_EQ(result.status, 0) << line << result.err;
    EXPECT_EQ(result.err, "") << line;
  }
}

TEST(UsageTest, VersionIsTheProjects) {
  const CommandResult result = run_command({"--version"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "counterflow " COUNTERFLOW_VERSION "\n");
}

// The sanitizers reserve more address space than a limit leaves.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(UsageTest, EndsWithAnInternalErrorWhereMemoryIsShort) {
  const CommandResult result =
      run_shell("ulimit -v 65536; counterflow generate dualpipe --ranks 1024 --micro-batches 4096");
  EXPECT_EQ(result.status, 3);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "counterflow: out of memory\n");
}

// What has no end is read as far as a file may go, 512 MiB, and takes no more memory than that.
TEST(UsageTest, EndlessInputTakesNoMoreThanTheLargestFile) {
  const CommandResult result = run_shell("ulimit -v 700000; counterflow simulate /dev/zero");
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err, "counterflow: cannot read /dev/zero: expected at most 536870912 bytes, found more\n");
}
#endif

TEST(UsageTest, RefusesWhatIsNoVerb) {
  const std::string verbs =
      "expected a verb (list, generate, simulate, verify, compare, search, diff, lower, convert, fold, "
      "unfold, "
      "render, report), "
      "found ";
  expect_refused({}, verbs + "none; --help shows what each does");
  expect_refused({"simulat"}, verbs + "\"simulat\"; --help shows what each does");
  expect_refused({"--jsn"}, verbs + "\"--jsn\"; --help shows what each does");
  expect_refused({""}, verbs + "\"\"; --help shows what each does");
}

// They were passed over in silence.
TEST(UsageTest, RefusesWhatStandsBeforeTheVerb) {
  for (const std::string first : {"help", "--json", "--", "a.csv"}) {
    const CommandResult result = run_command({first, "list"});
    EXPECT_EQ(result.status, 2) << first;
    EXPECT_EQ(result.out, "") << first;
    EXPECT_NE(result.err.find("report), found \"" + first + "\"; --help shows what each does\n"),
              std::string::npos)
        << result.err;
  }
}

// One verb a command: the second was not run, and a file of its name could not be given.
TEST(UsageTest, WhatFollowsAVerbIsNoVerb) {
  expect_refused({"list", "verify"},
                 "The following argument was not expected: verify; --help shows what is expected");
  const TemporaryFolder folder;
  folder.write("report", format(generate("1f1b", {2, 4})));
  folder.write("list", format(generate("gpipe", {2, 4})));
  EXPECT_EQ(run_shell("counterflow simulate list", folder.path()).out.substr(0, 7), "gpipe: ");
  const CommandResult result = run_shell("counterflow verify report list", folder.path());
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("list: ok: gpipe"), std::string::npos) << result.out;
}

TEST(UsageTest, RefusesArgumentsThatAreMissingUnknownOrNoNumber) {
  const std::string end = "; --help shows what is expected";
  expect_refused({"generate"}, "NAME is required" + end);
  expect_refused({"generate", "1f1b", "--ranks", "4"}, "--micro-batches is required" + end);
  expect_refused({"verify"}, "FILE is required" + end);
  expect_refused({"diff", "a"}, "B is required" + end);
  expect_refused({"convert", "a"}, "--to is required" + end);
  expect_refused({"list", "all"}, "The following argument was not expected: all" + end);
  expect_refused({"simulate", "a", "--jsn"}, "The following argument was not expected: --jsn" + end);
  expect_refused({"compare", "--ranks", "4x", "--micro-batches", "8"},
                 "--ranks: expected a whole number from 1 to 65536, found \"4x\"" + end);
  expect_refused({"compare", "--ranks", "010", "--micro-batches", "8"},
                 "--ranks: expected a whole number from 1 to 65536, found \"010\"" + end);
  expect_refused(
      {"generate", "1f1b", "--ranks", "4", "--micro-batches", "99999999999999999999"},
      "--micro-batches: expected a whole number from 1 to 16777216, found \"99999999999999999999\"" + end);
  expect_refused({"simulate", "a", "--p2p", "-1"},
                 "--p2p: expected a whole number from 0 to 1000000000000, found \"-1\"" + end);
  expect_refused({"simulate", "a", "--cost", "f=1", "--cost-file", "b"}, "--cost excludes --cost-file" + end);
  expect_refused({"simulate", "a", "--cost-file", "b", "--p2p", "1"}, "--p2p excludes --cost-file" + end);
  for (const std::string bad : {"-1", "nan", "inf", "1e300", "2s"}) {
    expect_refused(
        {"search", "--ranks", "2", "--micro-batches", "2", "--seconds", bad},
        "--seconds: expected a number of seconds from 0 to 1000000000, found \"" + bad + "\"" + end);
  }
  expect_refused({"verify", "a", "--max-bubble-ratio", "nan"},
                 "--max-bubble-ratio: expected a number from 0 to 1, found \"nan\"" + end);
  expect_refused({"verify", "a", "--receive-buffers", "0"},
                 "--receive-buffers: expected a whole number from 1 to 1000000000, found \"0\"" + end);
  expect_refused({"verify", "a", "--format", "xml"}, "--format: xml not in {text,json,junit,github}" + end);
  expect_refused({"convert", "a", "--to", "yaml"}, "--to: yaml not in {counterflow,torch,json}" + end);
}

// An empty name comes from a script's variable that is not set.
TEST(UsageTest, EveryVerbRefusesAnEmptyFileName) {
  const std::string text = format(generate("dualpipe", {2, 4}));
  const auto expect_name = [&](const std::vector<std::string>& arguments, const std::string& option) {
    expect_refused(arguments, option + ": expected a name, found \"\"; --help shows what is expected", text);
  };
  const std::vector<std::string> size = {"--ranks", "2", "--micro-batches", "4"};
  const auto sized = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), size.begin(), size.end());
    return arguments;
  };
  expect_name(sized({"generate", "1f1b", "-o", ""}), "--output");
  expect_name(sized({"generate", ""}), "NAME");
  expect_name(sized({"search", "--rounds", "0", "-o", ""}), "--output");
  expect_name(sized({"search", "--rounds", "0", "--pareto", "-o", ""}), "--output");
  expect_name({"convert", "-", "--to", "json", "-o", ""}, "--output");
  expect_name({"lower", "-", "-o", ""}, "--output");
  expect_name({"fold", "-", "-o", ""}, "--output");
  expect_name({"unfold", "-", "-o", ""}, "--output");
  expect_name({"render", "-", "-o", ""}, "--output");
  expect_name({"render", "-", "--compare", ""}, "--compare");
  expect_name({"render", "-", "--recording", ""}, "--recording");
  expect_name({"report", "-", "--cost-output", ""}, "--cost-output");
  expect_name({"report", "-", "--schedule", ""}, "--schedule");
  expect_name({"simulate", "-", "--cost-file", ""}, "--cost-file");
  expect_name({"simulate", ""}, "FILE");
  expect_name({"verify", "-", ""}, "FILE");
  expect_name({"diff", "-", ""}, "B");
}

// CLI11 takes what follows -o as the name, "=" and all.
TEST(UsageTest, AShortOptionsValueHasNoEqualsSign) {
  const TemporaryFolder folder;
  const std::string schedule = folder.write("in.csv", format(generate("dualpipe", {2, 4})));
  const std::string size = " --ranks 2 --micro-batches 4 ";
  for (const std::string& line :
       {"generate 1f1b" + size, "search --rounds 0" + size, "search --rounds 0 --pareto" + size,
        std::string("convert in.csv --to json "), std::string("lower in.csv "), std::string("fold in.csv "),
        std::string("unfold in.csv "), std::string("render in.csv ")}) {
    const CommandResult result = run_shell("counterflow " + line + "-o=x.csv", folder.path());
    EXPECT_EQ(result.status, 2) << line;
    EXPECT_EQ(result.out, "") << line;
    EXPECT_EQ(result.err,
              "counterflow: -o: expected no \"=\" before the value, found \"=x.csv\"; write -o x.csv or "
              "--output=x.csv\n")
        << line;
  }
  EXPECT_EQ(run_shell("ls -A", folder.path()).out, "in.csv\n");
  EXPECT_EQ(run_shell("counterflow lower in.csv -o=", folder.path()).err,
            "counterflow: -o: expected no \"=\" before the value, found \"=\"; write -o FILE or "
            "--output=FILE\n");
  EXPECT_EQ(run_shell("counterflow lower in.csv -oa && counterflow lower in.csv --output=b && cmp a b",
                      folder.path())
                .status,
            0);
}

TEST(UsageTest, RefusesCostsThatAreNone) {
  expect_refused({"simulate", "a", "--cost", "f=1,g=2"},
                 "cost \"f=1,g=2\": found \"g=2\" where f=, i=, w= or fb= was expected; expected times like "
                 "f=1,i=1,w=1,fb=3");
  expect_refused({"simulate", "a", "--cost-file", "/no/such.json"},
                 "cannot read /no/such.json: No such file or directory");
}

TEST(UsageTest, EveryVerbThatReadsAFileSaysWhatIsWrongWithIt) {
  const TemporaryFolder folder;
  const std::string bad = folder.write("bad.csv", "0F0\n1F0,1X0\n");
  const std::string message = bad + ":2:6: expected F, B, I or W after the stage, found \"X0\"";
  for (const std::vector<std::string>& verb :
       std::vector<std::vector<std::string>>{{"simulate", bad},
                                             {"lower", bad},
                                             {"convert", bad, "--to", "torch"},
                                             {"fold", bad},
                                             {"diff", bad, bad}}) {
    expect_refused(verb, message);
  }
  const std::string missing = folder.path() + "/none.csv";
  expect_refused({"simulate", missing}, "cannot read " + missing + ": No such file or directory");
}

TEST(UsageTest, StandardInputIsOneFile) {
  const std::string text = format(generate("gpipe", {2, 2}));
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"verify", "-", "-"},
                                                    {"render", "-", "--compare", "-"},
                                                    {"simulate", "-", "--cost-file", "-"},
                                                    {"report", "-", "--schedule", "-"},
                                                    {"diff", "-", "-"}})
    expect_refused(arguments, arguments[0] + ": expected at most one file to be standard input, found 2",
                   text);
  EXPECT_EQ(run_command({"convert", "-", "--to", "counterflow", "-o", "-"}, text).out, text);
  EXPECT_EQ(run_command({"render", "-", "-o", "-"}, text).status, 0);
}

TEST(UsageTest, ErrorsOfStandardInputNameIt) {
  expect_refused({"simulate", "-"}, "<stdin>:1:2: expected F, B, I or W after the stage, found \"Q0\"",
                 "0Q0\n");
}

TEST(UsageTest, ErrorsAreOneLineWhateverTheyQuote) {
  const CommandResult result =
      run_command({"generate", "a\nb\033[31m", "--ranks", "2", "--micro-batches", "2"});
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
  EXPECT_EQ(result.err.find('\033'), std::string::npos);
}

TEST(UsageTest, SaysWhereItCouldNotWrite) {
  const CommandResult full = run_shell("counterflow list >/dev/full");
  EXPECT_EQ(full.status, 2);
  EXPECT_EQ(full.err, "counterflow: cannot write standard output: No space left on device\n");
  EXPECT_EQ(run_shell("counterflow generate --help >/dev/full").status, 2);
  EXPECT_EQ(run_shell("counterflow --version >/dev/full").status, 2);
  expect_refused({"generate", "1f1b", "--ranks", "2", "--micro-batches", "2", "-o", "/no/such/folder/a.csv"},
                 "cannot write /no/such/folder/a.csv: No such file or directory");
}

}  // namespace
}  // namespace counterflow::testing
