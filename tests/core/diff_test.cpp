#include "counterflow/diff.h"

#include <gtest/gtest.h>

#include <random>

#include "counterflow/generate.h"

namespace counterflow {
namespace {

Schedule two_ranks() {
  Schedule schedule{"two", Placement::loop(2, 1, 2), {}, {}, {}};
  schedule.actions = {{forward(0, 0), forward(0, 1), backward(0, 0), backward(0, 1)},
                      {forward(1, 0), backward(1, 0), forward(1, 1), backward(1, 1)}};
  return schedule;
}

TEST(DiffTest, FindsNothingBetweenEqualSchedules) {
  Schedule other = two_ranks();
  other.name = "another name";
  other.claims = {{1, UniformCost{}}};
  const Difference difference = diff(two_ranks(), other);
  EXPECT_TRUE(difference.empty());
  EXPECT_EQ(draw(difference, two_ranks(), other, "a", "b"), "");
}

TEST(DiffTest, ShowsTheStepsOfARankThatDiffer) {
  Schedule other = two_ranks();
  std::swap(other.actions[1][1], other.actions[1][2]);
  const Difference difference = diff(two_ranks(), other);
  ASSERT_EQ(difference.ranks.size(), 1);
  EXPECT_EQ(difference.ranks[0].rank, 1);
  EXPECT_EQ(difference.ranks[0].steps, (std::vector<StepDifference>{{1, 1}, {2, 2}}));
  EXPECT_TRUE(difference.ranks[0].reordered);
  EXPECT_EQ(draw(difference, two_ranks(), other, "mine.csv", "b"),
            "rank 1: 2 differences in 4 steps, the same actions in another order\n"
            "  step        0     1      2     3\n"
            "  mine.csv  1F0  [1B0]  [1F1]  1B1\n"
            "  b         1F0  [1F1]  [1B0]  1B1\n");
}

TEST(DiffTest, ADroppedActionIsOneDifference) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  Schedule other = schedule;
  other.actions[0].erase(other.actions[0].begin() + 4);  // 3I4
  const Difference difference = diff(schedule, other);
  ASSERT_EQ(difference.ranks.size(), 1);
  EXPECT_EQ(difference.ranks[0].steps, (std::vector<StepDifference>{{4, -1}}));
  EXPECT_FALSE(difference.ranks[0].reordered);
  other.actions[0].erase(other.actions[0].begin() + 7, other.actions[0].end());
  Schedule start = schedule;
  start.actions[0].erase(start.actions[0].begin() + 8, start.actions[0].end());
  const auto steps = [&](std::size_t max_width) {
    const std::string text = draw(diff(start, other), start, other, "a", "b", max_width);
    return text.substr(text.find('\n') + 1);
  };
  EXPECT_EQ(steps(58),
            "  step  …    2    3     4   5/4  6/5                   7/6\n"
            "  a     …  0F2  3F4  [3I4]  3W4  3F5  (0F3;3B5)OVERLAP_F_B\n"
            "  b     …  0F2  3F4    [-]  3W4  3F5  (0F3;3B5)OVERLAP_F_B\n");
  EXPECT_EQ(steps(57), steps(39));
  EXPECT_EQ(steps(39),
            "  step  …    2    3     4   5/4  6/5  …\n"
            "  a     …  0F2  3F4  [3I4]  3W4  3F5  …\n"
            "  b     …  0F2  3F4    [-]  3W4  3F5  …\n");
  EXPECT_EQ(steps(1),
            "  step  …     4   …\n"
            "  a     …  [3I4]  …\n"
            "  b     …    [-]  …\n");
}

TEST(DiffTest, AnInsertedActionIsOneDifference) {
  const Schedule schedule = generate("1f1b", {4, 8});
  Schedule other = schedule;
  other.actions[1].insert(other.actions[1].begin(), backward(1, 1));
  other.actions[1].push_back(forward(1, 7));
  EXPECT_EQ(diff(schedule, other).ranks.at(0).steps,
            (std::vector<StepDifference>{{-1, 0}, {-1, static_cast<int>(other.actions[1].size()) - 1}}));
}

TEST(DiffTest, ComparesListsOfDifferentLength) {
  Schedule other = two_ranks();
  other.actions[0].pop_back();
  EXPECT_EQ(draw(diff(two_ranks(), other), two_ranks(), other, "a", "b"),
            "rank 0: 1 difference in 4 steps\n"
            "  step  …    1    2     3\n"
            "  a     …  0F1  0B0  [0B1]\n"
            "  b     …  0F1  0B0    [-]\n");
}

// What lies between the differences must be the same, whatever was changed.
TEST(DiffTest, TheDifferencesAccountForBothLists) {
  std::mt19937 random(7);
  const std::vector<Action> original = generate("dualpipe", {8, 20}).actions[3];
  for (int round = 0; round < 300; ++round) {
    Schedule a = two_ranks(), b = two_ranks();
    a.actions[0] = b.actions[0] = original;
    for (unsigned change = 0; change <= random() % 6; ++change) {
      auto& list = random() % 2 == 0 ? a.actions[0] : b.actions[0];
      const auto at = list.begin() + random() % list.size();
      switch (random() % 3) {
        case 0:
          list.erase(at);
          break;
        case 1:
          list.insert(at, original[random() % original.size()]);
          break;
        default:
          std::iter_swap(at, list.begin() + random() % list.size());
      }
    }
    const Difference difference = diff(a, b);
    std::vector<Action> rest_a = a.actions[0], rest_b = b.actions[0];
    if (!difference.ranks.empty()) {
      const auto& steps = difference.ranks[0].steps;
      for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
        if (step->a >= 0) rest_a.erase(rest_a.begin() + step->a);
        if (step->b >= 0) rest_b.erase(rest_b.begin() + step->b);
      }
      EXPECT_LE(steps.size(), 14);  // 7 changes, of at most 2 steps each
    }
    EXPECT_EQ(rest_a, rest_b);
  }
}

TEST(DiffTest, NamesWhatDiffersInShape) {
  EXPECT_EQ(diff(generate("dualpipe", {4, 8}), generate("dualpipe", {4, 10})).shape,
            (std::vector<std::string>{"micro-batches: 8 and 10"}));
  const Difference difference = diff(generate("dualpipe", {4, 8}), generate("dualpipe-v", {2, 8}));
  EXPECT_EQ(difference.shape, (std::vector<std::string>{"ranks: 4 and 2", "directions: 2 and 1"}));
}

TEST(DiffTest, ComparesThePlacementOfStages) {
  Schedule other = two_ranks();
  other.placement = Placement(2, {{0, 2, {1, 0}}});
  EXPECT_EQ(diff(two_ranks(), other).shape,
            (std::vector<std::string>{"direction 0: ranks of the stages: 0 1 and 1 0"}));
}

TEST(DiffTest, TellsEvaluationFromTraining) {
  const Schedule schedule = two_ranks();
  EXPECT_EQ(diff(schedule, forward_only(schedule)).shape,
            (std::vector<std::string>{"passes: training and forward"}));
}

TEST(DiffTest, ShowsSomeRanksAndCountsTheRest) {
  const Schedule a = generate("dualpipe", {8, 20});
  const Schedule b = forward_only(a);
  const std::string text = draw(diff(a, b), a, b, "a", "b", std::string::npos, 3);
  EXPECT_NE(text.find("rank 2: "), std::string::npos);
  EXPECT_EQ(text.find("rank 3: "), std::string::npos);
  EXPECT_TRUE(text.ends_with("… and 5 more ranks\n"));
}

}  // namespace
}  // namespace counterflow
