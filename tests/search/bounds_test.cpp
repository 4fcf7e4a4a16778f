#include "search/bounds.h"

#include <gtest/gtest.h>

#include "counterflow/simulate.h"
#include "instances.h"
#include "search/construct.h"
#include "search/starts.h"
#include "search/windows.h"

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

}  // namespace
}  // namespace counterflow::searching
