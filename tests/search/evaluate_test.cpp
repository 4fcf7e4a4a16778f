#include "search/evaluate.h"

#include <gtest/gtest.h>

#include "counterflow/simulate.h"
#include "counterflow/verify.h"
#include "instances.h"
#include "search/construct.h"
#include "search/starts.h"
#include "search/timing.h"

namespace counterflow::searching {
namespace {

using counterflow::testing::families;
using counterflow::testing::problem_of;
using counterflow::testing::random_request;

/// Calls check(family, problem, order) for known and constructed orders of random requests.
template <typename Check>
void for_each_order(int requests, Check&& check) {
  Random random(7);
  for (int i = 0; i < requests; ++i) {
    for (const Family& family : families(random_request(random, 5))) {
      const Problem problem = problem_of(family);
      for (const Known& known : known_schedules(family)) {
        if (const auto order = family.order(problem, known.schedule)) check(family, problem, *order);
      }
      if (!why_infeasible(problem).empty()) continue;
      for (int tries = 0; tries < 5; ++tries)
        check(family, problem, construct(problem, random_preferences(random), random));
    }
  }
}

TEST(EvaluateTest, AgreesWithTheSimulator) {
  int orders = 0;
  for_each_order(60, [&](const Family& family, const Problem& problem, const Order& order) {
    ++orders;
    Evaluator evaluator(problem);
    const Schedule schedule = family.schedule(problem, order, "test");
    ASSERT_EQ(evaluator.evaluate(order), simulate(schedule, family.costs).makespan) << family.name();
  });
  EXPECT_GT(orders, 1000);
}

TEST(OrderTest, OfAScheduleVerifies) {
  for_each_order(30, [&](const Family& family, const Problem& problem, const Order& order) {
    const Verdict verdict = verify(family.schedule(problem, order, "test"));
    ASSERT_TRUE(verdict.ok()) << verdict.diagnostics[0].message;
  });
}

TEST(FitsTest, AgreesWithTheSimulator) {
  int fitting = 0;
  int others = 0;
  for_each_order(60, [&](const Family& family, const Problem& problem, const Order& order) {
    const Schedule schedule = family.schedule(problem, order, "test");
    ASSERT_EQ(fits(problem, order), testing::within_limits(family, schedule)) << family.name();
    ++(fits(problem, order) ? fitting : others);
  });
  EXPECT_GT(fitting, 500);
  EXPECT_GT(others, 50);
}

TEST(ConstructTest, FitsTheMemory) {
  Random random(3);
  for (int i = 0; i < 200; ++i) {
    for (const Family& family : families(random_request(random, 5))) {
      const Problem problem = problem_of(family);
      if (!why_infeasible(problem).empty()) continue;
      const Order order = construct(problem, random_preferences(random), random);
      ASSERT_TRUE(fits(problem, order)) << family.name();
      ASSERT_LT(Evaluator(problem).evaluate(order), kNever);
    }
  }
}

// Where no two changes of one rank meet, the estimate is what its steps then have to wait for.
TEST(TimingTest, EstimatesSmallChanges) {
  Random random(11);
  int exact = 0;
  int tried = 0;
  for (int i = 0; i < 40; ++i) {
    for (const Family& family : families(random_request(random, 4))) {
      const Problem problem = problem_of(family);
      if (!why_infeasible(problem).empty()) continue;
      Order order = construct(problem, random_preferences(random), random);
      Timing timing(problem);
      Evaluator evaluator(problem);
      ASSERT_EQ(timing.settle(order), evaluator.evaluate(order));
      Moves moves(problem);
      for (int tries = 0; tries < 50; ++tries) {
        const int rank = random.below(problem.num_ranks());
        Change* change =
            moves.propose(order, rank, random.below(static_cast<int>(order[rank].size())), random);
        if (change == nullptr) continue;
        const Time estimate = timing.estimate(order, *change);
        apply(order, *change);
        if (fits(problem, order)) {
          const Time makespan = evaluator.evaluate(order);
          if (makespan < kNever && makespan > timing.makespan()) {
            ++tried;
            exact += estimate == makespan;
          }
        }
        apply(order, *change);
      }
    }
  }
  EXPECT_GT(tried, 500);
  EXPECT_GT(exact, tried * 9 / 10) << tried;
}

}  // namespace
}  // namespace counterflow::searching
