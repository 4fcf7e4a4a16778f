#include "counterflow/search.h"

#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"
#include "instances.h"
#include "search/starts.h"

namespace counterflow {
namespace {

SearchRequest v_request(int ranks, int micro_batches, const char* cost, int max_activations, int rounds) {
  SearchRequest request;
  request.ranks = ranks;
  request.micro_batches = micro_batches;
  request.costs = CostModel(parse_uniform_cost(cost));
  request.max_activations = max_activations;
  request.placements = {PlacementKind::kV};
  request.rounds = rounds;
  request.seconds = 600;
  return request;
}

Time makespan_of(const SearchRequest& request) {
  const SearchResult result = search(request);
  const Simulation run = simulate(result.schedule, result.costs);
  EXPECT_TRUE(verify(result.schedule).ok());
  EXPECT_EQ(result.makespan, (Fraction{run.makespan, result.parts}));
  EXPECT_LE(run.peak_activations(), *request.max_activations * result.parts);
  return run.makespan;
}

// Proven optima with DualPipeV's own memory, which it misses by one each.
TEST(SearchTest, ReachesProvenOptima) {
  EXPECT_EQ(makespan_of(v_request(2, 4, "f=1,i=1,w=1,fb=2", 5, 4)), 21);
  EXPECT_EQ(makespan_of(v_request(2, 4, "f=2,i=2,w=2,fb=5", 5, 4)), 47);
  EXPECT_EQ(makespan_of(v_request(3, 6, "f=1,i=1,w=1,fb=2", 7, 4)), 32);
}

TEST(SearchTest, BeatsEveryGeneratorOnFourRanks) {
  EXPECT_LE(makespan_of(v_request(4, 8, "f=4,i=4,w=4,fb=11", 9, 8)), 197);
  EXPECT_LE(makespan_of(v_request(4, 8, "f=4,i=4,w=4,fb=10", 9, 8)), 192);
  EXPECT_LE(makespan_of(v_request(4, 10, "f=4,i=4,w=4,fb=11", 9, 8)), 242);
}

TEST(SearchTest, IsNeverWorseThanWhatIsKnown) {
  searching::Random random(1);
  int better = 0;
  for (int i = 0; i < 20; ++i) {
    SearchRequest request = testing::random_request(random, 5);
    request.rounds = 1;
    const SearchResult result = search(request);
    ASSERT_TRUE(verify(result.schedule).ok());
    EXPECT_GE(result.makespan, result.lower_bound);
    bool all_beaten = true;  // or proven the best
    for (const searching::Family& family : testing::families(request)) {
      for (const searching::Known& known : known_schedules(family)) {
        if (!testing::within_limits(family, known.schedule)) continue;
        const Fraction makespan{simulate(known.schedule, family.costs).makespan, family.parts};
        ASSERT_LE(result.makespan, makespan) << known.name << " on " << family.name();
        all_beaten &= result.makespan < makespan || result.optimal();
      }
    }
    better += all_beaten;
  }
  EXPECT_GE(better, 15);
}

TEST(SearchTest, DependsOnSeedAndRoundsAlone) {
  SearchRequest request = v_request(4, 6, "f=5,i=6,w=4,fb=13", 8, 3);
  request.threads = 1;
  const SearchResult one = search(request);
  request.threads = 3;
  const SearchResult other = search(request);
  EXPECT_EQ(one.schedule, other.schedule);
  EXPECT_EQ(one.num_evaluations, other.num_evaluations);
}

TEST(SearchTest, StoppedAtOnceGivesTheBestKnown) {
  SearchRequest request = v_request(4, 8, "f=4,i=4,w=4,fb=11", 9, 1000);
  std::stop_source source;
  source.request_stop();
  request.stop = source.get_token();
  EXPECT_LE(makespan_of(request), 206);
}

TEST(SearchTest, NeverChoosesAPairThatIsDearerThanItsPasses) {
  SearchRequest request = v_request(2, 6, "f=1,i=1,w=1,fb=4", 5, 1);
  const SearchResult result = search(request);
  EXPECT_EQ(result.families[0].num_pairs, 0);
}

TEST(SearchTest, SaysWhyNothingFits) {
  SearchRequest request = v_request(4, 8, "f=1,i=1,w=1", 1, 1);
  try {
    search(request);
    FAIL();
  } catch (const InvalidConfig& error) {
    EXPECT_EQ(std::string(error.what()),
              "no schedule fits: v: rank 0 holds at least 2 stage activations, more than 1");
  }
}

}  // namespace
}  // namespace counterflow
