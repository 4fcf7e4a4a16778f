#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"

namespace counterflow {
namespace {

std::string text(const Schedule& schedule) {
  std::string text;
  for (const std::vector<Action>& actions : schedule.actions) {
    for (const Action& action : actions) text += to_string(action) + " ";
    text += "\n";
  }
  return text;
}

TEST(OneFOneBTest, WarmsUpByOneForwardForEachRankBehind) {
  EXPECT_EQ(text(generate("1f1b", {3, 4})),
            "0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3 \n"
            "1F0 1F1 1B0 1F2 1B1 1F3 1B2 1B3 \n"
            "2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3 \n");
}

TEST(OneFOneBTest, RefusesFewerMicroBatchesThanRanks) {
  try {
    generate("1f1b", {4, 3});
    FAIL();
  } catch (const InvalidConfig& error) {
    EXPECT_STREQ(error.what(),
                 "1f1b: expected micro-batches at least ranks, found 4 ranks x 3 micro-batches; the nearest "
                 "that work: 3 ranks x 3 micro-batches, 4 ranks x 4 micro-batches");
  }
}

}  // namespace
}  // namespace counterflow
