#include "counterflow/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "counterflow/error.h"
#include "counterflow/simulate.h"

namespace counterflow {
namespace {

CompareOptions size(int ranks, int micro_batches) {
  CompareOptions options;
  options.ranks = ranks;
  options.micro_batches = micro_batches;
  return options;
}

const ComparisonRow& row(const Comparison& comparison, std::string_view name) {
  const auto found = std::find_if(comparison.rows.begin(), comparison.rows.end(),
                                  [&](const ComparisonRow& one) { return one.generator->name == name; });
  if (found == comparison.rows.end()) throw InvalidConfig("no row of " + std::string(name));
  return *found;
}

std::string error_of(const CompareOptions& options) {
  try {
    compare(options);
  } catch (const InvalidConfig& error) {
    return error.what();
  }
  return "no error";
}

TEST(FractionTest, OrdersExactly) {
  EXPECT_EQ((Fraction{51, 2}), (Fraction{102, 4}));
  EXPECT_LT((Fraction{51, 2}), (Fraction{26, 1}));
  EXPECT_GT((Fraction{std::int64_t{1} << 62, 2}), (Fraction{(std::int64_t{1} << 62) - 1, 2}));
}

TEST(FractionTest, PrintsAtMostThreeDecimals) {
  EXPECT_EQ(to_string(Fraction{51, 2}), "25.5");
  EXPECT_EQ(to_string(Fraction{52, 2}), "26");
  EXPECT_EQ(to_string(Fraction{1, 3}), "0.333");
  EXPECT_EQ(to_string(Fraction{5, 4}), "1.25");
  EXPECT_EQ(to_string(Fraction{1, 2000}), "0.001");
  EXPECT_EQ(to_string(Fraction{1, 4000}), "0");
  EXPECT_EQ(to_string(Fraction{19999, 10000}), "2");
}

TEST(CompareTest, RowsAreOfTheSameShareOfTheModel) {
  const Comparison comparison = compare(size(4, 8));
  EXPECT_EQ(to_string(row(comparison, "dualpipe").makespan), "26");
  EXPECT_EQ(to_string(row(comparison, "1f1b").makespan), "33");
  EXPECT_EQ(to_string(row(comparison, "interleaved-1f1b").makespan), "28.5");  // bubble 9 of half a stage
  EXPECT_EQ(to_string(row(comparison, "dualpipe").peak_activations), "5");
  EXPECT_EQ(to_string(row(comparison, "1f1b").peak_activations), "4");
  EXPECT_EQ(row(comparison, "dualpipe").generator->copies, 2);
}

TEST(CompareTest, ListsTheBestFirst) {
  const Comparison comparison = compare(size(4, 8));
  ASSERT_GE(comparison.rows.size(), 3);
  EXPECT_TRUE(std::is_sorted(comparison.rows.begin(), comparison.rows.end(),
                             [](const auto& a, const auto& b) { return a.makespan < b.makespan; }));
}

TEST(CompareTest, SaysWhyASizeDoesNotFit) {
  const Comparison comparison = compare(size(3, 6));
  const auto skip = std::find_if(comparison.skipped.begin(), comparison.skipped.end(),
                                 [](const auto& one) { return one.generator->name == "dualpipe"; });
  ASSERT_NE(skip, comparison.skipped.end());
  EXPECT_EQ(skip->why, "needs ranks even, micro-batches even and at least 2 x ranks");
}

TEST(CompareTest, SaysThatASizeIsTooLarge) {
  const Comparison comparison = compare(size(65536, 16777216));
  EXPECT_TRUE(comparison.rows.empty());
  EXPECT_EQ(comparison.skipped.size(), all_generators().size());
}

TEST(CompareTest, EveryGeneratorIsInTheTableOrLeftOut) {
  const Comparison comparison = compare(size(4, 8));
  EXPECT_EQ(comparison.rows.size() + comparison.skipped.size(), all_generators().size());
}

TEST(CompareTest, TriesEveryNumberOfStagesARankThatIsAskedFor) {
  CompareOptions options = size(4, 8);
  options.stages_per_rank = {1, 2, 4};
  std::vector<std::string> makespans;
  for (const ComparisonRow& one : compare(options).rows) {
    if (one.generator->name == "interleaved-1f1b") makespans.push_back(to_string(one.makespan));
  }
  EXPECT_EQ(makespans, (std::vector<std::string>{"26.25", "28.5", "33"}));
}

TEST(CompareTest, LeavesOutWhatHoldsTooManyActivations) {
  CompareOptions options = size(4, 8);
  options.max_activations = 4;
  const Comparison comparison = compare(options);
  for (const ComparisonRow& one : comparison.rows) EXPECT_LE(one.peak_activations, (Fraction{4, 1}));
  EXPECT_EQ(row(comparison, "1f1b").peak_activations, (Fraction{4, 1}));
  const auto skip = std::find_if(comparison.skipped.begin(), comparison.skipped.end(),
                                 [](const auto& one) { return one.generator->name == "dualpipe"; });
  ASSERT_NE(skip, comparison.skipped.end());
  EXPECT_EQ(skip->why, "holds 5 activations of a share, more than 4");
}

// Uneven shares, transfers and overlaps: one stage a rank is what simulate() says of the same costs, and a
// looped schedule with costs cut by hand is what compare() makes of the uncut ones.
TEST(CompareTest, CutsEverySharesCostsAmongItsStages) {
  CompareOptions options = size(2, 4);
  options.costs.stages = {{.f = 6, .i = 8, .w = 4, .activation_bytes = 100, .output_bytes = 10},
                          {.f = 10, .i = 12, .w = 6, .activation_bytes = 300, .output_bytes = 30}};
  options.costs.link = Link{.latency = 3, .bytes_per_time = 10};
  options.costs.overlaps[{0, 1}] = 20;
  const Comparison comparison = compare(options);

  const Simulation whole = simulate(generate("1f1b", {2, 4}), options.costs);
  EXPECT_EQ(row(comparison, "1f1b").makespan, (Fraction{whole.makespan, 1}));
  EXPECT_EQ(row(comparison, "1f1b").activation_bytes,
            whole.ranks[row(comparison, "1f1b").fullest_rank].peak_activation_bytes);

  CostModel halves = options.costs;
  const StageCost first{.f = 3, .i = 4, .w = 2, .activation_bytes = 50, .output_bytes = 10};
  const StageCost second{.f = 5, .i = 6, .w = 3, .activation_bytes = 150, .output_bytes = 30};
  halves.stages = {first, first, second, second};
  halves.overlaps.clear();
  const Simulation looped = simulate(generate("interleaved-1f1b", {2, 4, 2}), halves);
  EXPECT_EQ(row(comparison, "interleaved-1f1b").makespan, (Fraction{looped.makespan, 1}));
  EXPECT_EQ(row(comparison, "interleaved-1f1b").bubble, (Fraction{looped.bubble, 1}));
}

TEST(CompareTest, SaysWhatFitsTheMemory) {
  CompareOptions options = size(4, 8);
  options.costs.stages = {{.activation_bytes = 10,
                           .output_bytes = 1,
                           .parameter_bytes = 100,
                           .gradient_bytes = 50,
                           .optimizer_bytes = 200}};
  options.costs.memory_bytes = 500;
  const Comparison comparison = compare(options);
  const ComparisonRow& twice = row(comparison, "dualpipe");
  EXPECT_EQ(twice.static_bytes, 700);
  EXPECT_EQ(twice.activation_bytes, 50);
  EXPECT_GT(twice.receive_bytes, 0);
  EXPECT_FALSE(twice.fits_memory);
  const ComparisonRow& once = row(comparison, "1f1b");
  EXPECT_EQ(once.static_bytes, 350);
  EXPECT_EQ(once.activation_bytes, 40);
  EXPECT_TRUE(once.fits_memory);
  const ComparisonRow& looped = row(comparison, "interleaved-1f1b");
  EXPECT_EQ(looped.static_bytes, 350);
  const auto first_that_does_not = std::find_if(comparison.rows.begin(), comparison.rows.end(),
                                                [](const auto& one) { return !one.fits_memory; });
  EXPECT_TRUE(std::none_of(first_that_does_not, comparison.rows.end(),
                           [](const auto& one) { return one.fits_memory; }));
}

TEST(CompareTest, RefusesCostsOfAnotherNumberOfShares) {
  CompareOptions options = size(4, 8);
  options.costs.stages.resize(3);
  EXPECT_EQ(error_of(options), "costs: number of stages: expected 1 or 4, found 3");
}

TEST(CompareTest, RefusesSizesThatNoPipelineHas) {
  EXPECT_EQ(error_of(size(0, 8)), "number of ranks: expected 1 to 65536, found 0");
  EXPECT_EQ(error_of(size(4, -1)), "number of micro-batches: expected 1 to 16777216, found -1");
}

TEST(CompareTest, RefusesCostsThatDoNotFitTheFinerUnit) {
  CompareOptions options = size(4, 8);
  options.costs.stages[0].output_bytes = std::int64_t{1} << 62;
  EXPECT_NE(error_of(options).find("use a coarser unit"), std::string::npos);
}

TEST(CompareTest, TellsHowFarItIs) {
  CompareOptions options = size(4, 8);
  std::vector<int> done;
  options.progress = [&](int so_far, int total) {
    done.push_back(so_far);
    EXPECT_EQ(total, static_cast<int>(all_generators().size()));
  };
  compare(options);
  ASSERT_EQ(done.size(), all_generators().size());
  EXPECT_EQ(done.back(), static_cast<int>(all_generators().size()) - 1);
}

}  // namespace
}  // namespace counterflow
