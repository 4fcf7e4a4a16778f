#include "instances.h"

#include "counterflow/simulate.h"

namespace counterflow::testing {

using searching::Family;
using searching::Random;

namespace {

CostModel random_costs(Random& random, int ranks) {
  CostModel costs;
  const bool uneven = random.below(2) == 0;
  costs.stages.resize(uneven ? ranks : 1);
  const Time f = 2 + random.below(8);
  const Time i = 2 + random.below(8);
  const Time w = 1 + random.below(8);
  Time longest = 0;
  for (StageCost& stage : costs.stages) {
    stage.f = f + (uneven ? random.below(4) : 0);
    stage.i = i + (uneven ? random.below(4) : 0);
    stage.w = w + (uneven ? random.below(3) : 0);
    stage.activation_bytes = 8 + random.below(8);
    stage.weight_store_bytes = random.below(8);
    stage.output_bytes = 4;
    longest = std::max(longest, stage.f + stage.i + stage.w);
  }
  // A pair at most as long as its passes of any two stages, but for one in four that is dearer.
  if (random.below(2) == 0)
    costs.overlap =
        random.below(4) == 0 ? longest + 1 : f + i + w - random.below(static_cast<int>(std::min(f, i + w)));
  switch (random.below(4)) {
    case 0:
      costs.p2p = 1 + random.below(4);
      break;
    case 1:
      costs.link = Link{.latency = random.below(3), .bytes_per_time = 1 + random.below(4)};
      break;
    default:
      break;
  }
  return costs;
}

}  // namespace

SearchRequest random_request(Random& random, int most_ranks) {
  SearchRequest request;
  request.ranks = 2 + random.below(most_ranks - 1);
  request.micro_batches = 1 + random.below(3 * request.ranks);
  request.costs = random_costs(random, request.ranks);
  if (random.below(2) == 0) request.max_activations = 2 + random.below(2 * request.ranks);
  return request;
}

std::vector<Family> families(const SearchRequest& request) {
  std::vector<SearchFamily> refused;
  return searching::families_of(request, refused);
}

searching::Problem problem_of(const Family& family) {
  return family.problem(std::vector<std::int64_t>(family.placement.num_ranks(), 0));
}

bool within_limits(const Family& family, const Schedule& schedule) {
  return !family.max_activations ||
         simulate(schedule, family.costs).peak_activations() <= *family.max_activations;
}

}  // namespace counterflow::testing
