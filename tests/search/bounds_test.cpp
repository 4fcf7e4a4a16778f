#include "search/bounds.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>

#include "core/generated_sizes.h"
#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "instances.h"
#include "search/construct.h"
#include "search/starts.h"
#include "search/windows.h"
#include "support/expected_rows.h"
#include "support/sweep.h"

namespace counterflow::searching {
namespace {

using counterflow::testing::families;
using counterflow::testing::problem_of;
using counterflow::testing::random_request;
using counterflow::testing::within_limits;

TEST(BoundsTest, HoldForEverySimulatedSchedule) {
  Random random(5);
  int met = 0;
  for (int i = 0; i < 300; ++i) {
    for (const Family& family : families(random_request(random, 6))) {
      const Problem problem = problem_of(family);
      const Bounds bounds = bounds_of(problem);
      const Time windows = windows_bound(problem);
      const auto check = [&](const Schedule& schedule, const std::string& name) {
        if (!within_limits(family, schedule)) return;
        const Time makespan = simulate(schedule, family.costs).makespan;
        met += makespan == std::max(bounds.best(), windows);
        ASSERT_GE(makespan, std::max(bounds.best(), windows))
            << name << " on " << family.name() << ": work " << bounds.work << ", path " << bounds.path
            << ", ramps " << bounds.ramps << ", lifespans " << bounds.lifespans << ", windows " << windows;
      };
      for (const Known& known : known_schedules(family)) check(known.schedule, known.name);
      if (!why_infeasible(problem).empty()) continue;
      for (int tries = 0; tries < 10; ++tries) {
        const Order order = construct(problem, random_preferences(random), random);
        check(family.schedule(problem, order, ""), "constructed");
      }
    }
  }
  EXPECT_GT(met, 100);
}

Time bound_within(Family family, std::int64_t max_activations) {
  family.max_activations = max_activations;
  const Problem problem = problem_of(family);
  return std::max(bounds_of(problem).best(), windows_bound(problem));
}

SearchRequest request_of(PlacementKind placement, const Size& size, const CostModel& costs) {
  SearchRequest request;
  request.ranks = size.ranks;
  request.micro_batches = size.micro_batches;
  request.placements = {placement};
  request.stages_per_rank = {size.stages_per_rank};
  request.costs = costs;
  return request;
}

std::optional<Family> family_of(const Schedule& schedule, const Size& size, const CostModel& costs) {
  for (const PlacementKind kind :
       {PlacementKind::kOne, PlacementKind::kLoop, PlacementKind::kV, PlacementKind::kBidirectional}) {
    for (Family& family : families(request_of(kind, size, costs))) {
      if (family.placement == schedule.placement) return family;
    }
  }
  return std::nullopt;
}

// The tightest limit that a schedule keeps is what it holds itself.
TEST(BoundsTest, HoldForEveryGeneratorWithinItsOwnMemory) {
  const std::vector<CostModel> all_costs = {CostModel(parse_uniform_cost("f=1,i=1,w=1,fb=3")),
                                            CostModel(parse_uniform_cost("f=5,i=6,w=4,fb=12"), 2),
                                            CostModel(parse_uniform_cost("f=2,i=2,w=2,fb=5")),
                                            CostModel(parse_uniform_cost("f=3,i=7,w=1,fb=10"), 1)};
  int schedules = 0;
  int met = 0;
  for (const Generator* generator : all_generators()) {
    std::vector<Size> sizes = small_sizes(*generator);
    const std::vector<Size> large = large_sizes(*generator);
    const auto step = static_cast<std::size_t>(counterflow::testing::sweep(9, 1));
    for (std::size_t i = 0; i < large.size(); i += step) sizes.push_back(large[i]);
    for (const Size& size : sizes) {
      const Schedule schedule = generate(*generator, size);
      for (const CostModel& costs : all_costs) {
        const std::optional<Family> family = family_of(schedule, size, costs);
        if (!family) {  // Chimera may send one direction fewer micro-batches
          ASSERT_TRUE(generator->copies == 2 && size.micro_batches % 2 == 1) << generator->name;
          continue;
        }
        const Simulation run = simulate(schedule, costs);
        const Time bound = bound_within(*family, run.peak_activations());
        ASSERT_LE(bound, run.makespan) << generator->name << " " << size.ranks << "x" << size.micro_batches
                                       << " f=" << costs.stages[0].f;
        ++schedules;
        met += bound == run.makespan;
      }
    }
  }
  EXPECT_GT(schedules, 1000);
  EXPECT_GT(met, schedules / 8);
}

TEST(BoundsTest, PathIsTightForOneMicroBatch) {
  SearchRequest request =
      request_of(PlacementKind::kOne, {4, 1, 1}, CostModel(parse_uniform_cost("f=3,i=5,w=2"), 1));
  request.rounds = 1;
  const SearchResult result = search(request);
  const Problem problem = problem_of(families(request).at(0));
  EXPECT_EQ(result.makespan.value, bounds_of(problem).path);
}

// And for what the peers' own programs give, by another simulator.
TEST(BoundsTest, HoldForThePeersSchedules) {
  const std::map<std::string, PlacementKind> placements = {
      {"chimera", PlacementKind::kBidirectional},
      {"dualpipe", PlacementKind::kBidirectional},
      {"dualpipev", PlacementKind::kV},
      {"ScheduleDualPipeV", PlacementKind::kV},
      {"ScheduleZBVZeroBubble", PlacementKind::kV},
      {"handcrafted_zbv", PlacementKind::kV},
      {"zbv", PlacementKind::kV},
      {"zbv_greedy_half", PlacementKind::kV},
      {"zbv_greedy_min", PlacementKind::kV},
      {"v_auto_schedule", PlacementKind::kV},
      {"v1f1b", PlacementKind::kV},
      {"vpp", PlacementKind::kLoop},
      {"ScheduleInterleaved1F1B", PlacementKind::kLoop},
      {"ScheduleInterleavedZeroBubble", PlacementKind::kLoop},
      {"ScheduleLoopedBFS", PlacementKind::kLoop},
      {"ScheduleGPipe", PlacementKind::kOne},
      {"basic1f1b", PlacementKind::kOne},
      {"zbpp_light_ZBH1", PlacementKind::kOne},
      {"zb_heuristic", PlacementKind::kOne},
  };
  int rows = 0;
  int met = 0;
  for (const counterflow::testing::ExpectedRow& row : counterflow::testing::read_expected_rows()) {
    const auto placement = placements.find(row.schedule);
    if (!row.ok || placement == placements.end()) continue;
    const SearchRequest request = request_of(placement->second, row.size, CostModel(row.cost, row.p2p));
    const Time bound = bound_within(families(request).at(0), row.peak);
    ASSERT_LE(bound, row.makespan) << row.line;
    ++rows;
    met += bound == row.makespan;
  }
  EXPECT_GT(rows, 2000);
  EXPECT_GT(met, 200);
}

}  // namespace
}  // namespace counterflow::searching
