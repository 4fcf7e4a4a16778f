#include <gtest/gtest.h>

#include <string>

#include "counterflow/cost_model.h"
#include "counterflow/error.h"

namespace counterflow {
namespace {

constexpr const char* kFull = R"({
  "unit": "us",
  "stages": {
    "f": [10, 20],
    "i": 11,
    "w": [9, 8],
    "activation_bytes": 100,
    "weight_store_bytes": 50,
    "output_bytes": 10,
    "parameter_bytes": [1000, 2000],
    "gradient_bytes": 1001,
    "optimizer_bytes": 1002
  },
  "overlap": {
    "default": 25,
    "pairs": [
      {"forward": 0, "backward": 1, "time": 24}
    ]
  },
  "p2p": 3,
  "links": {
    "default": {"latency": 4, "bytes_per_time": 5},
    "pairs": [
      {"from": 0, "to": 1, "latency": 6, "bytes_per_time": 7},
      {"from": 1, "to": 0, "latency": 8}
    ]
  },
  "memory_bytes": 80000
}
)";

CostModel full_model() {
  CostModel costs;
  costs.stages = {{10, 11, 9, 100, 50, 10, 1000, 1001, 1002}, {20, 11, 8, 100, 50, 10, 2000, 1001, 1002}};
  costs.overlap = 25;
  costs.overlaps = {{{0, 1}, 24}};
  costs.p2p = 3;
  costs.link = Link{4, 5};
  costs.link_of = {{{0, 1}, {6, 7}}, {{1, 0}, {8, 0}}};
  costs.memory_bytes = 80000;
  return costs;
}

std::string error_of(const std::string& text) {
  try {
    parse_cost_model(text, "c");
  } catch (const ParseError& error) {
    return error.what();
  }
  return "no error";
}

/// kFull with one change.
std::string error_with(const std::string& from, const std::string& to) {
  std::string text = kFull;
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return error_of(text.replace(at, from.size(), to));
}

TEST(CostFileTest, ReadsEverything) {
  EXPECT_EQ(parse_cost_model(kFull), full_model());
}

TEST(CostFileTest, TakesOneNumberForAllStages) {
  const CostModel costs = parse_cost_model(R"({"stages": {"f": 1, "i": 2, "w": 3}, "overlap": 5})");
  EXPECT_EQ(costs, CostModel(UniformCost{1, 2, 3, 5}));
  EXPECT_EQ(format_cost_model(costs), "{\n  \"stages\": {\"f\":1,\"i\":2,\"w\":3},\n  \"overlap\": 5\n}\n");
}

TEST(CostFileTest, WritesTheUnitOfItsTimes) {
  EXPECT_EQ(format_cost_model({}, "us"),
            "{\n  \"unit\": \"us\",\n  \"stages\": {\"f\":1,\"i\":1,\"w\":1}\n}\n");
  EXPECT_EQ(parse_cost_model(format_cost_model(full_model(), "us")), full_model());
  EXPECT_EQ(parse_cost_model(format_cost_model({}, "\xff\n")), CostModel());
}

TEST(CostFileTest, WritesWhatItReads) {
  EXPECT_EQ(parse_cost_model(format_cost_model(full_model())), full_model());
  CostModel uniform_but_many;
  uniform_but_many.stages.resize(3);
  EXPECT_EQ(parse_cost_model(format_cost_model(uniform_but_many)), uniform_but_many);
  CostModel pairs_only;
  pairs_only.overlaps = {{{1, 0}, 7}};
  pairs_only.link_of = {{{0, 0}, {}}};
  EXPECT_EQ(parse_cost_model(format_cost_model(pairs_only)), pairs_only);
}

TEST(CostFileTest, TakesMemoryOfEachRank) {
  const CostModel costs =
      parse_cost_model(R"({"stages": {"f": 1, "i": 1, "w": 1}, "memory_bytes": [80, 0, 40]})");
  EXPECT_EQ(costs.memory_of_rank, (std::vector<std::int64_t>{80, 0, 40}));
  EXPECT_EQ(costs.memory(2), 40);
  EXPECT_EQ(parse_cost_model(format_cost_model(costs)), costs);
  EXPECT_NO_THROW(costs.check(3, 3));
  EXPECT_THROW(costs.check(2, 2), InvalidConfig);
  EXPECT_EQ(error_of(R"({"stages": {"f": 1, "i": 1, "w": 1}, "memory_bytes": [80, -1]})").substr(0, 24),
            "c:1:59: memory_bytes[1]:");
}

TEST(CostFileTest, TakesLayersInPlaceOfStages) {
  const CostModel costs = parse_cost_model(R"({"layers": {"f": [1, 2, 2], "i": 2, "w": 3}, "p2p": 1})");
  ASSERT_EQ(costs.layers.size(), 3U);
  EXPECT_EQ(costs.layers[1].f, 2);
  EXPECT_EQ(parse_cost_model(format_cost_model(costs)), costs);
  EXPECT_THROW(costs.check(3, 3), InvalidConfig);
  EXPECT_EQ(error_of(R"({"layers": {"f": 1, "i": 2, "w": 3}, "stages": {"f": 1, "i": 2, "w": 3}})"),
            "c:1:1: a cost file: expected one of the keys stages and layers, found both");
  EXPECT_EQ(error_of(R"({"layers": {"f": [], "i": 2, "w": 3}})"),
            "c:1:18: layers.f: expected 1 to 262144 numbers, found 0");
}

TEST(CostFileTest, RefusesToWriteWhatItWouldNotRead) {
  CostModel costs;
  costs.p2p = -1;
  EXPECT_THROW(format_cost_model(costs), InvalidConfig);
  costs.p2p = 1'000'000'000'001;
  EXPECT_THROW(format_cost_model(costs), InvalidConfig);
  costs.p2p = 0;
  costs.stages.clear();
  EXPECT_THROW(format_cost_model(costs), InvalidConfig);
}

TEST(CostFileTest, SaysWhatIsNoJson) {
  EXPECT_EQ(
      error_of(""),
      "c:1:1: syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal");
  EXPECT_EQ(error_of("{\n \"p2p\": 1,\n}"),
            "c:3:1: syntax error while parsing object key - unexpected '}'; expected string literal");
  EXPECT_EQ(
      error_of("{} x"),
      "c:1:4: syntax error while parsing value - invalid literal; last read: '{} x'; expected end of input");
  EXPECT_EQ(
      error_of("{\"\xff"),
      "c:1:3: syntax error while parsing object key - invalid string: ill-formed UTF-8 byte; last read: "
      "'\"\\xff'; expected string literal");
  EXPECT_EQ(error_of("[1e999]"), "c:1:6: number overflow parsing '1e999'");
}

TEST(CostFileTest, SaysThatAFileOfAnotherKindIsNoJson) {
  EXPECT_EQ(error_of("# counterflow schedule v1\n# ranks: 2\n"),
            "c:1:1: expected JSON that begins with { or [, found \"# counterflow schedule v1\"");
  EXPECT_EQ(error_of("\n 0F0,0B0\n"), "c:2:2: expected JSON that begins with { or [, found \"0F0,0B0\"");
  EXPECT_EQ(error_of("\xef\xbb\xbf{,"),
            "c:1:5: syntax error while parsing object key - unexpected ','; expected string literal");
}

TEST(CostFileTest, RefusesDeepAndEndlessJson) {
  EXPECT_EQ(error_of(std::string(1'000'000, '[')), "c:1:9: expected at most 8 levels, found more");
  EXPECT_EQ(error_of(std::string(8, '[') + "{"), "c:1:9: expected at most 8 levels, found more");
  std::string many = "[0";
  for (int i = 0; i < 1 << 20; ++i) many += ",0";
  EXPECT_EQ(error_of(many), "c:1:2097152: expected at most 1048576 values, found more");
}

TEST(CostFileTest, SaysWhichKeyIsWrong) {
  EXPECT_EQ(error_of("[]"),
            "c:1:1: a cost file: expected an object with unit, stages, layers, overlap, p2p, links and "
            "memory_bytes, found "
            "\"[\"");
  EXPECT_EQ(error_of("{}"), "c:1:1: a cost file: expected one of the keys stages and layers, found none");
  EXPECT_EQ(error_with("p2p", "p3p"),
            "c:20:4: a cost file: expected a key out of unit, stages, layers, overlap, p2p, links and "
            "memory_bytes, found "
            "\"p3p\"");
  EXPECT_EQ(error_with("\"unit\": \"us\"", "\"p2p\": 3"),
            "c:20:4: a cost file: expected p2p once, found it again");
  EXPECT_EQ(error_with("\"us\"", "1"), "c:2:11: unit: expected a text, found \"1\"");
  EXPECT_EQ(error_with("\"i\": 11,", ""), "c:3:13: stages: expected the key i, found none");
  EXPECT_EQ(
      error_with("\"i\": 11,", "\"b\": 11,"),
      "c:5:6: stages: expected a key out of f, i, w, activation_bytes, weight_store_bytes, output_bytes, "
      "parameter_bytes, gradient_bytes and optimizer_bytes, found \"b\"");
  EXPECT_EQ(error_with("\"default\"", "\"defaults\""),
            "c:15:6: overlap: expected a key out of default and pairs, found \"defaults\"");
  EXPECT_EQ(error_with(", \"time\": 24", ""), "c:17:7: overlap.pairs[0]: expected the key time, found none");
  EXPECT_EQ(error_with("\"from\": 1, ", ""), "c:25:7: links.pairs[1]: expected the key from, found none");
}

TEST(CostFileTest, SaysWhichValueIsWrong) {
  for (const auto& [text, shown] : {std::pair{"-1", "-1"},
                                    {"1.5", "1.5"},
                                    {"1000000000001", "1000000000001"},
                                    {"99999999999999999999", "99999999999999999999"},
                                    {"1e3", "1e3"},
                                    {"true", "true"},
                                    {"null", "null"},
                                    {"{}", "{"}}) {
    EXPECT_EQ(error_with("\"i\": 11", std::string("\"i\": ") + text),
              std::string("c:5:10: stages.i: expected a whole number from 0 to 1000000000000, found \"") +
                  shown + "\"");
  }
  EXPECT_EQ(error_with("\"i\": 11", "\"i\": \"x\ty\""),
            "c:5:12: syntax error while parsing value - invalid string: control character U+0009 (HT) must "
            "be escaped "
            "to \\u0009 or \\t; last read: '\"x<U+0009>'");
  EXPECT_EQ(error_with("[9, 8]", "[9, -8]"),
            "c:6:14: stages.w[1]: expected a whole number from 0 to 1000000000000, found \"-8\"");
  EXPECT_EQ(error_with("[9, 8]", "[9, 8, 7]"),
            "c:6:10: stages.w: expected 2 numbers as in stages.f, found 3");
  EXPECT_EQ(error_with("[10, 20]", "[]"), "c:4:10: stages.f: expected 1 to 262144 numbers, found 0");
  EXPECT_EQ(error_with("100,", "1152921504606846977,"),
            "c:7:25: stages.activation_bytes: expected a whole number from 0 to 1152921504606846976, found "
            "\"1152921504606846977\"");
  EXPECT_EQ(error_with("25", "\"25\""),
            "c:15:16: overlap.default: expected a whole number from 0 to 1000000000000, found \"\"25\"\"");
  EXPECT_EQ(error_with("\"backward\": 1", "\"backward\": 262144"),
            "c:17:34: overlap.pairs[0].backward: expected a whole number from 0 to 262143, found \"262144\"");
  EXPECT_EQ(error_with("\"from\": 1, \"to\": 0", "\"from\": 0, \"to\": 1"),
            "c:25:7: links.pairs[1]: expected every pair of ranks once, found 0 and 1 again");
  EXPECT_EQ(error_with("\"latency\": 8", "\"latency\": [8]"),
            "c:25:39: links.pairs[1].latency: expected a whole number from 0 to 1000000000000, found \"[8\"");
}

}  // namespace
}  // namespace counterflow
