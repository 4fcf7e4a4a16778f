#include "counterflow/search.h"

#include <gtest/gtest.h>

#include <optional>

#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/program.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"
#include "instances.h"
#include "search/starts.h"
#include "support/sweep.h"

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

/// Stops as soon as it is there.
void expect_reaches(SearchRequest request, Time makespan) {
  std::stop_source source;
  request.stop = source.get_token();
  request.progress = [&](const SearchProgress& progress) {
    if (progress.makespan <= Fraction{makespan, 1}) source.request_stop();
  };
  EXPECT_LE(makespan_of(request), makespan);
}

TEST(SearchTest, BeatsEveryGeneratorOnFourRanks) {
  expect_reaches(v_request(4, 8, "f=4,i=4,w=4,fb=11", 9, 12), 197);
  expect_reaches(v_request(4, 8, "f=4,i=4,w=4,fb=10", 9, 12), 192);
  expect_reaches(v_request(4, 10, "f=4,i=4,w=4,fb=11", 9, 12), 242);
}

/// The least makespan of the generators' schedules, folded and unfolded, that fit a request.
std::optional<Fraction> best_known(const SearchRequest& request) {
  std::optional<Fraction> best;
  for (const searching::Family& family : testing::families(request)) {
    for (const searching::Known& known : known_schedules(family)) {
      if (!testing::within_limits(family, known.schedule)) continue;
      const Fraction makespan{simulate(known.schedule, family.costs).makespan, family.parts};
      if (!best || makespan < *best) best = makespan;
    }
  }
  return best;
}

// A hundred fixed instances: W apart from I, uneven stages, pairs, transfer times, links, little memory.
TEST(SearchTest, IsBetterThanWhatIsKnownInMostOfAHundredAndNeverWorse) {
  searching::Random random(100);
  const int instances = testing::sweep(12, 100);
  int better = 0;
  int open = 0;  // neither better nor proven to be the best
  for (int i = 0; i < instances; ++i) {
    SearchRequest request = testing::random_request(random, 6);
    request.rounds = 4;
    request.seconds = 600;
    const SearchResult result = search(request);
    ASSERT_TRUE(verify(result.schedule).ok());
    EXPECT_GE(result.makespan, result.lower_bound);
    const Fraction known = best_known(request).value_or(Fraction{result.makespan.value + 1, 1});
    EXPECT_LE(result.makespan, known) << "instance " << i;
    const bool is_better = result.makespan < known;
    better += is_better;
    open += !is_better && !result.optimal();
  }
  EXPECT_GE(better, instances * 3 / 4);
  EXPECT_LE(open, instances / 20 + 1) << better << " better";
}

TEST(SearchTest, LargeCasesLoseToNoGenerator) {
  std::vector<std::pair<int, int>> sizes = {{8, 32}};
  if (testing::full_sweeps()) sizes.insert(sizes.end(), {{16, 64}, {64, 512}});
  for (const auto& [ranks, micro_batches] : sizes) {
    SearchRequest request;
    request.ranks = ranks;
    request.micro_batches = micro_batches;
    request.costs = CostModel(parse_uniform_cost("f=5,i=6,w=4,fb=13"), 1);
    request.rounds = 4;
    request.seconds = 600;
    const SearchResult result = search(request);
    EXPECT_LE(result.makespan, *best_known(request)) << ranks;
    EXPECT_GE(result.makespan, result.lower_bound);
    EXPECT_LT(result.gap(), 0.1) << ranks;
  }
}

std::int64_t most_bytes(const Simulation& run) {
  std::int64_t most = 0;
  for (const RankResult& rank : run.ranks)
    most = std::max(most, rank.static_bytes + rank.peak_activation_bytes + rank.receive_bytes);
  return most;
}

/// For a test to limit in bytes.
SearchRequest request_without_limits(searching::Random& random) {
  SearchRequest request = testing::random_request(random, 5);
  request.max_activations.reset();
  request.rounds = 2;
  request.seconds = 600;
  return request;
}

/// What the leanest of the known schedules needs on its fullest rank.
std::int64_t least_bytes(const SearchRequest& request) {
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const searching::Family& family : testing::families(request))
    for (const searching::Known& known : known_schedules(family))
      least = std::min(least, most_bytes(simulate(known.schedule, family.costs)) / family.parts);
  return least;
}

// Of schedules that are mirror images each half has to fit either rank's memory; the bound holds for others
// too.
TEST(SearchTest, FitsTheMemoryOfEachRank) {
  searching::Random random(19);
  int found = 0;
  const int instances = testing::sweep(8, 60);
  for (int i = 0; i < instances; ++i) {
    SearchRequest request = request_without_limits(random);
    const std::int64_t least = least_bytes(request);
    for (int rank = 0; rank < request.ranks; ++rank)
      request.costs.memory_of_rank.push_back(
          random.below(4) == 0 ? 0 : least * (100 + random.below(60)) / 100 + 1);
    try {
      const SearchResult result = search(request);
      const Simulation run = simulate(result.schedule, result.costs);
      for (int rank = 0; rank < request.ranks; ++rank) {
        const RankResult& holds = run.ranks[rank];
        const std::int64_t memory = result.costs.memory(rank);
        if (memory == 0) continue;
        EXPECT_LE(holds.static_bytes + holds.peak_activation_bytes + holds.receive_bytes, memory) << i;
      }
      for (const searching::Family& family : testing::families(request)) {
        for (const searching::Known& known : known_schedules(family)) {
          const Simulation fits = simulate(known.schedule, family.costs);
          if (!family.allows(fits)) continue;
          EXPECT_LE(result.lower_bound, (Fraction{fits.makespan, family.parts})) << i << " " << family.name();
        }
      }
      ++found;
    } catch (const InvalidConfig& error) {
      ADD_FAILURE() << i << ": " << error.what();
    }
  }
  EXPECT_EQ(found, instances);
}

// Receive buffers, which an order alone does not show, are counted too.
TEST(SearchTest, FitsMemoryInBytes) {
  searching::Random random(9);
  int found = 0;
  const int instances = testing::sweep(8, 60);
  for (int i = 0; i < instances; ++i) {
    SearchRequest request = request_without_limits(random);
    // A little less or more than the leanest of the known needs.
    const std::int64_t least = least_bytes(request);
    const int percent = 85 + random.below(40);
    request.costs.memory_bytes = least * percent / 100 + 1;
    try {
      const SearchResult result = search(request);
      EXPECT_LE(most_bytes(simulate(result.schedule, result.costs)), result.costs.memory_bytes) << i;
      ++found;
    } catch (const InvalidConfig& error) {
      EXPECT_LE(percent, 100) << error.what();
    }
  }
  EXPECT_GE(found, instances / 2);
}

TEST(SearchTest, FindsSchedulesLikeAnyOther) {
  searching::Random random(13);
  for (int i = 0; i < 12; ++i) {
    SearchRequest request = testing::random_request(random, 5);
    request.rounds = 1;
    const Schedule schedule = search(request).schedule;
    EXPECT_TRUE(verify(schedule).ok());
    EXPECT_TRUE(verify(lower(schedule), schedule).ok());
    EXPECT_EQ(parse(format(schedule)), schedule);
    if (schedule.placement.num_directions() > 1) continue;  // which PyTorch does not have
    EXPECT_EQ(parse(format_torch(schedule)).actions, schedule.actions);
  }
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

// What unfolded ZBV and DualPipe need to beat each other is in closed form: a gain of (h - 1)F / (M - h - 2)
// = 3F / 14 for each pair, 7.1 % of F + B.
TEST(SearchTest, SaysWhyTheWinnerWon) {
  SearchRequest request;
  request.ranks = 8;
  request.micro_batches = 20;
  request.costs = CostModel(parse_uniform_cost("f=25,i=25,w=25,fb=72"));
  request.placements = {PlacementKind::kBidirectional};
  request.rounds = 0;
  EXPECT_NE(
      search(request).why.find("Of the generators with two copies of the parameters, zbv, unfolded beats "
                               "dualpipe: overlapping gains 4.0 % of F + B, dualpipe needs 7.1 %."),
      std::string::npos)
      << search(request).why;
  request.costs.overlap = 69;
  EXPECT_NE(
      search(request).why.find("dualpipe beats zbv, unfolded: overlapping gains 8.0 % of F + B, dualpipe "
                               "needs 7.1 %."),
      std::string::npos)
      << search(request).why;
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
