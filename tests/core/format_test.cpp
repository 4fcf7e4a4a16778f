#include "counterflow/format.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "counterflow/error.h"
#include "counterflow/generate.h"

namespace counterflow {
namespace {

const std::filesystem::path kData = COUNTERFLOW_TEST_DATA;

// Two ranks, one stage each, two micro-batches each way.
constexpr const char* kSmall =
    "# counterflow schedule v1\n"
    "# name: small\n"
    "# ranks: 2\n"
    "# stages: 2\n"
    "# micro-batches: 2\n"
    "# direction: micro-batches 0 on ranks 0-1\n"
    "# direction: micro-batches 1 on ranks 1-0\n"
    "# claim: bubble 6 at f=1,i=2,w=1,fb=3\n"
    "0F0,1F1,(0F0;1B1)OVERLAP_F_B\n"
    "1F0,1B0,0I1,0W1\n";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string error_of(const std::string& text) {
  try {
    parse(text, "f");
  } catch (const ParseError& error) {
    return error.what();
  }
  return "no error";
}

/// kSmall with one change.
std::string error_with(const std::string& from, const std::string& to) {
  return error_of(replaced(kSmall, from, to));
}

std::string read_golden(const std::string& name) {
  std::ifstream in(kData / "golden" / name, std::ios::binary);
  EXPECT_TRUE(in) << name;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(FormatTest, ReadsEveryPartOfAFile) {
  const Schedule schedule = parse(kSmall);
  EXPECT_EQ(schedule.name, "small");
  EXPECT_EQ(schedule.placement, Placement(2, {{0, 1, {0, 1}}, {1, 1, {1, 0}}}));
  EXPECT_EQ(schedule.passes, Passes::kTraining);
  const std::vector<Claim> claims{{6, {1, 2, 1, 3}}};
  EXPECT_EQ(schedule.claims, claims);
  const std::vector<std::vector<Action>> actions{
      {forward(0, 0), forward(1, 1), Action::overlap(forward(0, 0), backward(1, 1))},
      {forward(1, 0), backward(1, 0), input_gradient(0, 1), weight_gradient(0, 1)}};
  EXPECT_EQ(schedule.actions, actions);
  EXPECT_EQ(format(schedule), kSmall);
}

TEST(FormatTest, WritesPlacementsAsRanges) {
  const auto direction_of = [](const Placement& placement) {
    Schedule schedule{"", placement, {}, {}, {}};
    schedule.actions.resize(placement.num_ranks());
    const std::string text = format(schedule);
    EXPECT_EQ(parse(text), schedule);
    const std::size_t begin = text.find("on ranks ") + 9;
    return text.substr(begin, text.find('\n', begin) - begin);
  };
  EXPECT_EQ(direction_of(Placement::loop(4, 2, 1)), "0-3 0-3");
  EXPECT_EQ(direction_of(Placement::v(4, 1)), "0-3 3-0");
  EXPECT_EQ(direction_of(Placement::v(1, 1)), "0 0");
  EXPECT_EQ(direction_of(Placement(8, {{0, 1, {7, 6, 5, 0, 2, 1, 1}}})), "7-5 0 2-1 1");
}

TEST(FormatTest, KeepsSchedulesThatAreWrong) {
  Schedule schedule{"wrong", Placement::loop(2, 1, 2), {}, {}, {}};
  schedule.actions = {{forward(2147483647, 2147483647), forward(0, 0), forward(0, 0)}, {}};
  EXPECT_EQ(parse(format(schedule)), schedule);
}

TEST(FormatTest, KeepsNames) {
  Schedule schedule{"", Placement::loop(1, 1, 1), Passes::kForward, {}, {{}}};
  for (const char* name : {"", " ", "  two  ", "a\nb\r\t", "back\\slash\\x41", "\xff\xc3\xa9", "# x: y"}) {
    schedule.name = name;
    EXPECT_EQ(parse(format(schedule)), schedule) << name;
  }
}

TEST(FormatTest, ToleratesWhatEditorsDo) {
  const Schedule schedule = parse(kSmall);
  std::string dos;
  for (const char c : std::string(kSmall)) dos += c == '\n' ? std::string("\r\n") : std::string(1, c);
  EXPECT_EQ(parse(dos), schedule);
  EXPECT_EQ(parse(std::string(kSmall).substr(0, std::string(kSmall).size() - 1)), schedule);
  EXPECT_EQ(parse(std::string(kSmall) + "\n  \n\n"), schedule);
  EXPECT_EQ(parse(replaced(kSmall, "# ranks", "## a comment: 7\n# ranks")), schedule);
  EXPECT_EQ(parse(replaced(kSmall, "1F0,1B0", "## another\n1F0,1B0")), schedule);
  EXPECT_EQ(parse(replaced(kSmall, "# ranks: 2", "#ranks :\t2 ")), schedule);
  EXPECT_EQ(parse(replaced(kSmall, "0F0,1F1,(0F0;1B1)", " 0F0 , 1F1,,( 0F0 ; 1B1 )")), schedule);
  EXPECT_EQ(parse(replaced(kSmall, "on ranks 0-1", "on ranks 0 1")), schedule);
  EXPECT_EQ(parse(replaced(kSmall, "micro-batches 0 on", "micro-batches 0-0 on")), schedule);
  EXPECT_EQ(parse(replaced(kSmall, "# claim", "# passes: training\n# claim")), schedule);
}

TEST(FormatTest, SkipsWhatLoweringAdds) {
  const Schedule schedule = parse(kSmall);
  EXPECT_EQ(
      parse(replaced(kSmall, "1F0,1B0,",
                     "1UNSHARD,1RECV_F0,1F0,,1B0,1SEND_B0,0RECV_B1,0SEND_F1,\"\",1RESHARD,1REDUCE_GRAD,")),
      schedule);
}

TEST(FormatTest, SaysWhatIsWrongWithTheFirstLine) {
  EXPECT_EQ(
      error_of("# counterflow schedule v2\n"),
      "f:1:1: expected \"# counterflow schedule v1\" as the first line, found \"# counterflow schedule v2\"");
  EXPECT_EQ(error_of("#\n"), "f:1:1: expected \"# counterflow schedule v1\" as the first line, found \"#\"");
  EXPECT_EQ(error_of(""), "f:1:1: expected actions, found none");
  EXPECT_EQ(error_of("\xef\xbb\xbf"
                     "0F0"),
            "f:1:1: expected an action such as 2F5 or (2F6;1B0)OVERLAP_F_B, found \"\\xef\\xbb\\xbf0F0\"");
}

TEST(FormatTest, SaysWhatIsWrongWithTheHeader) {
  EXPECT_EQ(
      error_with("# name: small", "# nam: small"),
      "f:2:3: expected a key out of name, ranks, stages, micro-batches, direction, passes and claim (or ## "
      "before a comment), found \"nam\"");
  EXPECT_EQ(error_with("# name: small", "# hello"),
            "f:2:1: expected \"# key: value\", or ## before a comment, found \"# hello\"");
  EXPECT_EQ(error_with("# name: small", "# name: a\\y"),
            "f:2:10: expected \\x and two hexadecimal digits after a backslash, found \"\\y\"");
  EXPECT_EQ(error_with("# stages", "# ranks: 2\n# stages"),
            "f:4:3: expected \"# ranks: ...\" once, found it again after line 3, column 10");
  EXPECT_EQ(error_with("# ranks: 2\n", ""),
            "f:8:1: expected \"# ranks: ...\" in the header, found the end of the header");
  EXPECT_EQ(error_with("ranks: 2", "ranks: 0"), "f:3:10: expected ranks from 1 to 65536, found \"0\"");
  EXPECT_EQ(error_with("ranks: 2", "ranks: 99999999999999999999"),
            "f:3:10: expected ranks from 1 to 65536, found \"99999999999999999999\"");
  EXPECT_EQ(error_with("ranks: 2", "ranks: -1"), "f:3:10: expected ranks from 1 to 65536, found \"-1\"");
  EXPECT_EQ(error_with("ranks: 2", "ranks:"),
            "f:3:9: expected ranks from 1 to 65536, found the end of the line");
  EXPECT_EQ(error_with("ranks: 2", "ranks: 2 x"), "f:3:11: expected the end of the line, found \" x\"");
  EXPECT_EQ(error_with("micro-batches: 2", "micro-batches: 2000000"),
            "f:5:18: expected at most 1048832 stages x micro-batches (4 for each action and 1048576 more), "
            "found 4000000");
  EXPECT_EQ(error_with("# claim", "# passes: both\n# claim"),
            "f:8:11: expected training or forward, found \"both\"");
  EXPECT_EQ(error_with("bubble 6", "bubbles 6"),
            "f:8:10: expected \"bubble N at f=1,i=1,w=1\", found \"bubbles 6 at f=1\"");
  EXPECT_EQ(error_with("bubble 6", "bubble x"),
            "f:8:17: expected a bubble from 0 to 9223372036854775807, found \"x at f=1\"");
  EXPECT_EQ(error_with("6 at f=1", "6 f=1"), "f:8:18: expected \" at f=1,i=1,w=1\", found \" f=1\"");
  EXPECT_EQ(
      error_with("i=2", "x=2"),
      "f:8:22: cost \"f=1,x=2,w=1,fb=3\": found \"x=2\" where f=, i=, w= or fb= was expected; expected times "
      "like f=1,i=1,w=1,fb=3");
}

TEST(FormatTest, SaysWhatIsWrongWithDirections) {
  const std::string first = "micro-batches 0 on ranks 0-1";
  EXPECT_EQ(error_with(first, "0 on 0-1"),
            "f:6:14: expected \"micro-batches A-B on ranks ...\", found \"0 on 0-1\"");
  EXPECT_EQ(error_with(first, "micro-batches 1 on ranks 0-1"),
            "f:6:28: expected the direction's first micro-batch 0, found \"1 on ranks 0-1\"");
  EXPECT_EQ(error_with(first, "micro-batches 0-2 on ranks 0-1"),
            "f:6:30: expected the direction's last micro-batch from 0 to 1, found \"2 on ranks 0-1\"");
  EXPECT_EQ(error_with(first, "micro-batches 0 on 0-1"),
            "f:6:29: expected \" on ranks ...\", found \" on 0-1\"");
  EXPECT_EQ(error_with(first, "micro-batches 0 on ranks 0-2"),
            "f:6:41: expected a rank from 0 to 1, found \"2\"");
  EXPECT_EQ(error_with(first, "micro-batches 0 on ranks 0"),
            "f:6:40: expected a rank for each of 2 stages, found 1");
  EXPECT_EQ(error_with(first, "micro-batches 0 on ranks 0-1 0-1"),
            "f:6:43: expected a rank for each of 2 stages, found 4 ranks up to here");
  EXPECT_EQ(error_with(first, "micro-batches 0 on ranks 0-1-0"),
            "f:6:42: expected a rank from 0 to 1, found \"-0\"");
  EXPECT_EQ(error_with(first, "micro-batches 0-1 on ranks 0-1"),
            "f:7:14: expected no further direction: micro-batches 0 to 1 have theirs");
  EXPECT_EQ(
      error_with("# direction: micro-batches 1 on ranks 1-0\n", ""),
      "f:8:1: expected \"# direction: ...\" for micro-batches from 1 to 1, found the end of the header");
  EXPECT_EQ(error_with("# claim", "# direction: x\n# claim"),
            "f:8:14: expected at most a direction for each of 2 ranks, found another");
}

TEST(FormatTest, SaysWhatIsWrongWithActions) {
  const auto error_in = [](const std::string& row) { return error_with("1F0,1B0", row); };
  EXPECT_EQ(error_in("1F0,1B0junk"), "f:10:8: expected a comma or the end of the line, found \"junk\"");
  EXPECT_EQ(error_in("1F0,x"), "f:10:5: expected an action such as 2F5 or (2F6;1B0)OVERLAP_F_B, found \"x\"");
  EXPECT_EQ(error_in("1F0,1X0"), "f:10:6: expected F, B, I or W after the stage, found \"X0\"");
  EXPECT_EQ(error_in("1F0,1"), "f:10:6: expected F, B, I or W after the stage, found \",\"");
  EXPECT_EQ(error_in("1F0,1F"), "f:10:7: expected a micro-batch from 0 to 2147483647, found \",\"");
  EXPECT_EQ(error_in("1F-1"), "f:10:3: expected a micro-batch from 0 to 2147483647, found \"-1\"");
  EXPECT_EQ(error_in("2147483648F0"),
            "f:10:1: expected a stage from 0 to 2147483647, found \"2147483648F0\"");
  EXPECT_EQ(
      error_in("1SEND_X0"),
      "f:10:2: expected SEND_F, RECV_F, SEND_B, RECV_B, UNSHARD, RESHARD or REDUCE_GRAD, found \"SEND_X0\"");
  EXPECT_EQ(error_in("1SEND_F"), "f:10:8: expected a micro-batch from 0 to 2147483647, found \",\"");
  EXPECT_EQ(error_in("1UNSHARD0"), "f:10:9: expected a comma or the end of the line, found \"0\"");
  EXPECT_EQ(
      error_in("(1B0;1F0)OVERLAP_F_B"),
      "f:10:2: expected a forward (F) as the first of an overlapped pair, found \"1B0;1F0)OVERLAP_F_B\"");
  EXPECT_EQ(error_in("(1F0;0I1)OVERLAP_F_B"),
            "f:10:6: expected a full backward (B) as the second of an overlapped pair, found "
            "\"0I1)OVERLAP_F_B\"");
  EXPECT_EQ(error_in("(1F0)OVERLAP_F_B"),
            "f:10:5: expected a semicolon and the backward of the overlapped pair, found \")OVERLAP_F_B\"");
  EXPECT_EQ(error_in("(1F0;0B1)"), "f:10:9: expected )OVERLAP_F_B, found \")\"");
  EXPECT_EQ(error_in("((1F0;0B1)"), "f:10:2: expected a stage from 0 to 2147483647, found \"(1F0;0B1)\"");
  EXPECT_EQ(error_in(std::string("1F0\0", 4)),
            "f:10:4: expected a comma or the end of the line, found \"\\x00\"");
  EXPECT_EQ(error_in("x" + std::string(100, 'y')),
            "f:10:1: expected an action such as 2F5 or (2F6;1B0)OVERLAP_F_B, found "
            "\"xyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy...\"");
}

TEST(FormatTest, WantsALineForEachRank) {
  EXPECT_EQ(error_with("\n1F0,1B0,0I1,0W1", ""),
            "f:10:1: expected 2 lines of actions, one for each rank (empty where it has none), found 1");
  EXPECT_EQ(error_of(std::string(kSmall) + "\n0F0\n"),
            "f:12:1: expected 2 lines of actions, one for each rank, found another: \"0F0\"");
  EXPECT_EQ(error_of(std::string(kSmall) + "# ranks: 2\n"),
            "f:11:1: expected 2 lines of actions, one for each rank, found another: \"# ranks: 2\"");
}

TEST(FormatTest, RefusesToWriteWhatNoFileHolds) {
  Schedule schedule{"", Placement::loop(1, 1, 1), {}, {}, {{}}};
  EXPECT_THROW(format(Schedule{}), InvalidConfig);
  for (const Action& action :
       {Action(forward(0, -1)), Action(forward(-2, 0)), Action::overlap(backward(0, 0), backward(0, 0))}) {
    schedule.actions = {{action}};
    EXPECT_THROW(format(schedule), InvalidConfig) << action;
  }
  schedule.actions = {};
  EXPECT_THROW(format(schedule), InvalidConfig);
  schedule.actions = {{}};
  schedule.claims = {{-1, {}}};
  EXPECT_THROW(format(schedule), InvalidConfig);
  schedule.claims = {{1, {-1, 1, 1, {}}}};
  EXPECT_THROW(format(schedule), InvalidConfig);
}

TEST(FormatTest, HoldsLargePlacementsOnlyBesideManyActions) {
  constexpr int kMost = (1 << 20) + 4;  // with one action
  Schedule schedule{"", Placement::loop(1, 1, kMost), {}, {}, {{forward(0, 0)}}};
  EXPECT_EQ(parse(format(schedule)), schedule);
  EXPECT_EQ(
      error_of(replaced(replaced(format(schedule), "0-1048579", "0-1048580"), "1048580", "1048581")),
      "f:5:18: expected at most 1048580 stages x micro-batches (4 for each action and 1048576 more), found "
      "1048581");
  schedule.placement = Placement::loop(1, 1, kMost + 1);
  EXPECT_THROW(format(schedule), InvalidConfig);
}

TEST(FormatTest, HoldsManyDirectionsOnlyBesideManyActions) {
  const auto text_of = [](int ranks, int directions) {
    std::string text = "# counterflow schedule v1\n# ranks: " + std::to_string(ranks) +
                       "\n# stages: 1\n# micro-batches: " + std::to_string(directions) + "\n";
    for (int i = 0; i < directions; ++i)
      text += "# direction: micro-batches " + std::to_string(i) + " on ranks 0\n";
    return text + std::string(ranks, '\n');
  };
  EXPECT_EQ(error_of(text_of(64, 64)), "no error");
  EXPECT_EQ(error_of(text_of(65, 65)), "f:4:18: expected at most 64 directions, found 65");
  EXPECT_EQ(error_of(text_of(32768, 64)),
            "f:4:18: expected at most 1084032 directions x ranks (4 for each action and 1048576 more), found "
            "2097152");
}

// Each is simulated by verify(): a short file must not ask for hours.
TEST(FormatTest, HoldsSomeClaims) {
  Schedule schedule{"", Placement::loop(1, 1, 1), {}, {}, {{forward(0, 0)}}};
  schedule.claims.assign(64, {1, UniformCost{}});
  EXPECT_EQ(parse(format(schedule)), schedule);
  const std::string claim = "# claim: bubble 1 at f=1,i=1,w=1\n";
  EXPECT_EQ(error_of(replaced(format(schedule), claim, claim + claim)),
            "f:5:18: expected at most 64 claims, found 65");
  schedule.claims.push_back({1, UniformCost{}});
  EXPECT_THROW(format(schedule), InvalidConfig);
}

TEST(TorchCsvTest, InfersThePlacement) {
  const Schedule schedule = parse(",1F1,1B1\r\n0F0,2B0,2F0,\r\n");
  EXPECT_EQ(schedule.placement, Placement(2, {{0, 2, {1, 0, 1}}}));
  const std::vector<std::vector<Action>> actions{{forward(1, 1), backward(1, 1)},
                                                 {forward(0, 0), backward(2, 0), forward(2, 0)}};
  EXPECT_EQ(schedule.actions, actions);
  EXPECT_EQ(schedule.name, "");
  EXPECT_EQ(format_torch(schedule), "1F1,1B1\n0F0,2B0,2F0\n");
}

TEST(TorchCsvTest, SaysWhyThereIsNoPlacement) {
  EXPECT_EQ(
      error_of("0F0,1F0\n,1B0\n"),
      "f:2:2: expected every stage on one rank, found stage 1 on rank 1 here and on rank 0 at line 1, column "
      "5; a stage on two ranks needs Counterflow's header with a line for each direction");
  EXPECT_EQ(error_of("0F0,3F0\n1B0\n"),
            "f:1:5: expected actions of every stage up to this, found none of stage 2");
  EXPECT_EQ(error_of(",,\n"), "f:1:1: expected actions, found none");
  EXPECT_EQ(error_of("0F0,0F16777215\n"),
            "f:1:5: expected at most 1048584 stages x micro-batches (4 for each action and 1048576 more), "
            "found 16777216");
  EXPECT_EQ(error_of("0F16777216\n"), "f:1:1: expected micro-batches below 16777216, found 0F16777216");
  EXPECT_EQ(error_of("262144F0\n"), "f:1:1: expected stages below 262144, found 262144F0");
  EXPECT_EQ(error_of(std::string(65537, '\n')), "f:65537:1: expected at most 65536 lines, one for each rank");
}

TEST(TorchCsvTest, RefusesWhatPyTorchCannotExpress) {
  EXPECT_THROW(format_torch(generate("dualpipe", {4, 8})), InvalidConfig);
  EXPECT_THROW(format_torch(forward_only(generate("dualpipe-v", {4, 8}))), InvalidConfig);
}

// Their names: torch_GENERATOR_RANKSxSTAGESxMICRO-BATCHES.csv.
TEST(TorchCsvTest, ReadsWhatPyTorchWrites) {
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kData / "golden")) {
    const std::string name = entry.path().stem().string();
    if (!name.starts_with("torch_")) continue;
    const std::size_t end = name.rfind('_');
    Size size;
    ASSERT_EQ(
        std::sscanf(name.c_str() + end, "_%dx%dx%d", &size.ranks, &size.stages_per_rank, &size.micro_batches),
        3);
    const Schedule expected = generate(name.substr(6, end - 6), size);
    Schedule read = read_file(entry.path().string());
    EXPECT_EQ(read.name, name);
    read.name = expected.name;
    EXPECT_EQ(read, expected) << name;
    ++num_files;
  }
  EXPECT_GE(num_files, 39);
}

TEST(TorchCsvTest, ReadsWhatPyTorchLowered) {
  for (const char* name : {"zbv", "dualpipe-v"}) {
    Schedule read = read_file((kData / "torch_lowered" / (std::string(name) + "_2x4.csv")).string());
    read.name = name;
    EXPECT_EQ(read, generate(name, {2, 4}));
  }
}

TEST(TorchCsvTest, WritesGoldenFilesBack) {
  for (const char* name : {"dualpipe-v_1x2.csv", "dualpipe-v_3x7.csv", "dualpipe-v_8x20.csv"}) {
    EXPECT_EQ(format_torch(parse(read_golden(name))), read_golden(name)) << name;
  }
}

TEST(FormatTest, GoldenOrdersEqualTheGenerated) {
  for (const Size size : {Size{2, 4}, Size{4, 8}, Size{4, 10}, Size{8, 20}}) {
    const std::string golden = read_golden("dualpipe_" + std::to_string(size.ranks) + "x" +
                                           std::to_string(size.micro_batches) + ".csv");
    const Schedule generated = generate("dualpipe", size);
    const std::string text = format(generated);
    EXPECT_TRUE(text.ends_with("\n" + golden));
    EXPECT_EQ(parse(text), generated);
  }
}

TEST(JsonTest, HasEverythingOfASchedule) {
  Schedule schedule = parse(kSmall);
  schedule.name = "a\"b\xff";
  const auto json = nlohmann::json::parse(format_json(schedule));
  EXPECT_EQ(json, nlohmann::json::parse(R"({
    "name": "a\"b\ufffd", "ranks": 2, "stages": 2, "micro_batches": 2, "passes": "training",
    "directions": [{"first_micro_batch": 0, "micro_batches": 1, "rank_of_stage": [0, 1]},
                   {"first_micro_batch": 1, "micro_batches": 1, "rank_of_stage": [1, 0]}],
    "claims": [{"bubble": 6, "cost": "f=1,i=2,w=1,fb=3"}],
    "actions": [["0F0", "1F1", "(0F0;1B1)OVERLAP_F_B"], ["1F0", "1B0", "0I1", "0W1"]]})"));
}

}  // namespace
}  // namespace counterflow
