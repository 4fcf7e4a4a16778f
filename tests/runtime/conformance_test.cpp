// Pipelines against the plain loop, over every generator.
#include "conformance.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "counterflow/generate.h"
#include "counterflow/search.h"
#include "faulty_transport.h"
#include "models.h"
#include "world.h"

namespace counterflow::runtime {
namespace {

class ConformanceTest : public GeneratorTest {
 protected:
  static void SetUpTestSuite() { at::set_num_threads(1); }
};

TEST_P(ConformanceTest, TrainsAnMlpAsThePlainLoop) {
  for_sizes(2, 8, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    expect_conforms(schedule, *model, options_for(*model), local_world());
  });
}

TEST_P(ConformanceTest, NeedsNoBufferingOfSends) {
  for_sizes(2, 4, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    expect_conforms(schedule, *model, options_for(*model), local_world({.rendezvous = true}));
  });
}

TEST_P(ConformanceTest, TrainsStagesOfPieces) {
  for_sizes(2, 4, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    expect_conforms(schedule, *model, options_for(*model), local_world(), make_stage_of_pieces);
    PipelineOptions options = options_for(*model);
    options.recompute = {0, schedule.num_stages() - 1};
    expect_conforms(schedule, *model, options, local_world(), make_stage_of_pieces);
  });
}

TEST_P(ConformanceTest, DoesNotDependOnTimings) {
  for_sizes(2, 4, [](const Schedule& schedule) {
    const auto model = models::mlp(schedule.num_stages());
    const Faults faults{.seed = 7, .max_delay = std::chrono::microseconds(300)};
    expect_conforms(schedule, *model, options_for(*model), late(local_world(), faults));
  });
}

TEST_P(ConformanceTest, TrainsATransformerWithTiesAndDropoutAsThePlainLoop) {
  for_sizes(4, 4, [](const Schedule& schedule) {
    for (const double dropout : {0.0, 0.1}) {
      SCOPED_TRACE("dropout " + std::to_string(dropout));
      const auto model = models::gpt(schedule.num_stages(), dropout);
      expect_conforms(schedule, *model, options_for(*model), local_world());
    }
  });
}

TEST_P(ConformanceTest, TrainsWithRecomputationAsThePlainLoop) {
  for_sizes(4, 4, [](const Schedule& schedule) {
    const auto model = models::gpt(schedule.num_stages(), 0.1);
    PipelineOptions options = options_for(*model);
    for (int stage = 0; stage < schedule.num_stages(); stage += 3) options.recompute.push_back(stage);
    options.recompute.push_back(schedule.num_stages() - 1);
    expect_conforms(schedule, *model, options, local_world());
  });
}

/// What the search finds on a placement under costs that no generator is made for.
Schedule searched(PlacementKind placement, int ranks, int micro_batches, const char* cost) {
  SearchRequest request;
  request.ranks = ranks;
  request.micro_batches = micro_batches;
  request.costs = CostModel(parse_uniform_cost(cost), 1);
  request.placements = {placement};
  request.rounds = 2;
  return search(request).schedule;
}

TEST(SearchConformanceTest, TrainsAnMlpAsThePlainLoop) {
  for (const Schedule& schedule : {searched(PlacementKind::kOne, 3, 6, "f=5,i=6,w=3,fb=13"),
                                   searched(PlacementKind::kLoop, 3, 6, "f=5,i=6,w=3"),
                                   searched(PlacementKind::kV, 4, 8, "f=4,i=4,w=4,fb=11"),
                                   searched(PlacementKind::kBidirectional, 4, 8, "f=5,i=7,w=4,fb=13")}) {
    SCOPED_TRACE(schedule.name);
    EXPECT_TRUE(schedule.name.starts_with("search-"));  // no generator's
    const auto model = models::mlp(schedule.num_stages());
    expect_conforms(schedule, *model, options_for(*model), local_world());
  }
}

INSTANTIATE_TEST_SUITE_P(Generators, ConformanceTest,
                         testing::ValuesIn(all_generators().begin(), all_generators().end()), name_of_tested);

}  // namespace
}  // namespace counterflow::runtime
