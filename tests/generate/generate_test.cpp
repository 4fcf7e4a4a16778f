#include "counterflow/generate.h"

#include <gtest/gtest.h>

#include "counterflow/error.h"

namespace counterflow {
namespace {

std::string error_of(std::string_view name, const Size& size) {
  try {
    generate(name, size);
  } catch (const InvalidConfig& error) {
    return error.what();
  }
  return "no error";
}

TEST(GenerateTest, SuggestsTheNearestName) {
  EXPECT_EQ(
      error_of("dual-pipe", {4, 8}),
      "no generator is named \"dual-pipe\"; the nearest name is dualpipe (`counterflow list` shows all)");
}

TEST(GenerateTest, RefusesSizesThatAreNoSizes) {
  EXPECT_EQ(error_of("gpipe", {0, 8}), "number of ranks: expected 1 to 65536, found 0");
  EXPECT_EQ(error_of("gpipe", {4, -1}), "number of micro-batches: expected 1 to 16777216, found -1");
  EXPECT_EQ(error_of("looped-bfs", {4, 8, -2}), "number of stages a rank: expected 1 to 65536, found -2");
}

TEST(GenerateTest, RefusesStagesWhereTheirNumberIsGiven) {
  EXPECT_EQ(error_of("gpipe", {4, 8, 2}), "gpipe: expected 1 stage a rank, found 2");
}

TEST(GenerateTest, FillsInTheGeneratorsOwnNumberOfStages) {
  EXPECT_EQ(generate("interleaved-1f1b", {4, 8}), generate("interleaved-1f1b", {4, 8, 2}));
}

TEST(GenerateTest, NamesTheConstraintAndTheNearestSizes) {
  EXPECT_EQ(
      error_of("interleaved-1f1b", {4, 9, 2}),
      "interleaved-1f1b: expected micro-batches a multiple of max(1, micro-batches / ranks rounded down), "
      "found 4 ranks x 9 micro-batches x 2 stages a rank; the nearest that work: 4 ranks x 8 micro-batches "
      "x 2 stages a rank, 3 ranks x 9 micro-batches x 2 stages a rank, 4 ranks x 10 micro-batches x 2 "
      "stages a rank, 5 ranks x 9 micro-batches x 2 stages a rank");
}

TEST(GenerateTest, RefusesWorkThatNoMemoryHolds) {
  EXPECT_EQ(error_of("looped-bfs", {65536, 16777216, 4}),
            "looped-bfs: expected ranks x stages a rank x micro-batches to be at most 67108864, found "
            "4398046511104");
}

}  // namespace
}  // namespace counterflow
