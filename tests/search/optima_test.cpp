// Against optima that another program proved: oracle.py with CP-SAT, whose output is
// tests/data/search/optima.csv.

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "counterflow/search.h"
#include "counterflow/simulate.h"
#include "instances.h"
#include "search/bounds.h"
#include "search/exact.h"
#include "search/windows.h"
#include "support/sweep.h"

namespace counterflow::searching {
namespace {

struct Case {
  std::string line;
  SearchRequest request;
  Time optimum = 0;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

/// "4|4|5|2", or "4" for all stages.
Time time_of(const std::string& column, std::size_t stage) {
  const std::vector<std::string> parts = split(column, '|');
  return std::stoll(parts.size() == 1 ? parts[0] : parts.at(stage));
}

Case read_case(const std::string& line) {
  const std::vector<std::string> columns = split(line, ',');
  Case one;
  one.line = line;
  SearchRequest& request = one.request;
  request.placements = {find_placement_kind(columns.at(0))};
  request.ranks = std::stoi(columns.at(1));
  request.stages_per_rank = {std::stoi(columns.at(2))};
  request.micro_batches = std::stoi(columns.at(3));
  request.costs.stages.resize(static_cast<std::size_t>(request.ranks) * request.stages_per_rank[0]);
  for (std::size_t stage = 0; stage < request.costs.stages.size(); ++stage) {
    StageCost& cost = request.costs.stages[stage];
    cost.f = time_of(columns.at(4), stage);
    cost.i = time_of(columns.at(5), stage);
    cost.w = time_of(columns.at(6), stage);
  }
  if (!columns.at(7).empty()) request.costs.overlap = std::stoll(columns[7]);
  request.costs.p2p = std::stoll(columns.at(8));
  if (!columns.at(9).empty()) request.max_activations = std::stoll(columns[9]);
  one.optimum = std::stoll(columns.at(10));
  return one;
}

std::vector<Case> read_cases() {
  std::ifstream file(COUNTERFLOW_TEST_DATA "/search/optima.csv");
  std::vector<Case> cases;
  std::string line;
  std::getline(file, line);  // the columns' names
  while (std::getline(file, line)) cases.push_back(read_case(line));
  return cases;
}

// And each is tight somewhere.
TEST(OptimaTest, NoBoundIsAbove) {
  int met = 0;
  std::map<std::string, int> tight;
  const std::vector<Case> cases = read_cases();
  ASSERT_GT(cases.size(), 100U);
  for (const Case& one : cases) {
    const Problem problem = testing::problem_of(testing::families(one.request).at(0));
    const Bounds bounds = bounds_of(problem);
    const std::map<std::string, Time> all = {{"work", bounds.work},
                                             {"path", bounds.path},
                                             {"ramps", bounds.ramps},
                                             {"lifespans", bounds.lifespans},
                                             {"windows", windows_bound(problem)}};
    bool is_met = false;
    for (const auto& [name, bound] : all) {
      EXPECT_LE(bound, one.optimum) << name << ": " << one.line;
      tight[name] += bound == one.optimum;
      is_met |= bound == one.optimum;
    }
    met += is_met;
  }
  EXPECT_GT(met, static_cast<int>(cases.size()) / 3);
  for (const auto& [name, count] : tight) {
    if (name == "path") continue;  // of a single micro-batch, of which there are none here
    EXPECT_GT(count, 0) << name;
  }
}

bool is_bidirectional(const Case& one) {
  return one.request.placements[0] == PlacementKind::kBidirectional;
}

TEST(OptimaTest, AreReachedAndProven) {
  int proven = 0;
  std::vector<Case> cases = read_cases();
  std::erase_if(cases, is_bidirectional);
  const auto step = static_cast<std::size_t>(testing::sweep(3, 1));
  for (std::size_t i = 0; i < cases.size(); i += step) {
    const Case& one = cases[i];
    SearchRequest request = one.request;
    request.rounds = 8;
    request.seconds = 600;
    const SearchResult result = search(request);
    EXPECT_EQ(simulate(result.schedule, result.costs).makespan, one.optimum) << one.line;
    EXPECT_LE(result.lower_bound.value, one.optimum) << one.line;
    proven += result.optimal();
  }
  EXPECT_GT(proven, static_cast<int>(cases.size() / step) * 9 / 10);
}

// The search makes the two directions mirror images, and an optimum need not be: with little memory a few are
// better.
TEST(OptimaTest, OfTwoDirectionsAreMostlyReached) {
  std::vector<Case> cases = read_cases();
  std::erase_if(cases, std::not_fn(is_bidirectional));
  ASSERT_GT(cases.size(), 100U);
  const auto step = static_cast<std::size_t>(testing::sweep(5, 1));
  std::size_t reached = 0;
  std::size_t looked_at = 0;
  for (std::size_t i = 0; i < cases.size(); i += step) {
    const Case& one = cases[i];
    SearchRequest request = one.request;
    request.rounds = 4;
    request.seconds = 600;
    const SearchResult result = search(request);
    EXPECT_GE(result.makespan.value, one.optimum) << one.line;
    EXPECT_LE(result.lower_bound.value, one.optimum) << one.line;
    reached += result.makespan.value == one.optimum ? 1 : 0;
    ++looked_at;
  }
  EXPECT_GE(reached, looked_at * 9 / 10);
}

TEST(OptimaTest, ExactSearchFindsThemAndNothingBelow) {
  int answered = 0;
  for (const Case& one : read_cases()) {
    if (is_bidirectional(one)) continue;  // it is not asked for those
    const Problem problem = testing::problem_of(testing::families(one.request).at(0));
    ASSERT_TRUE(exact_applies(problem));
    constexpr std::int64_t kMostStates = 50'000;
    EXPECT_NE(find_order(problem, one.optimum - 1, kMostStates, {}).answer, Exact::Answer::kFound)
        << one.line;
    const Exact exact = find_order(problem, one.optimum, kMostStates, {});
    EXPECT_NE(exact.answer, Exact::Answer::kNone) << one.line;
    answered += exact.answer == Exact::Answer::kFound;
  }
  EXPECT_GT(answered, 60);
}

}  // namespace
}  // namespace counterflow::searching
