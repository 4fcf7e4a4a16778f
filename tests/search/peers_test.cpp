// Against sail-sg's zero-bubble generators where they were tuned to the very costs: with no more memory than
// they took, and F, I and W apart as theirs are, the search is never worse.
#include <gtest/gtest.h>

#include "counterflow/search.h"
#include "counterflow/simulate.h"
#include "support/expected_rows.h"
#include "support/sweep.h"

namespace counterflow {
namespace {

TEST(PeersTest, TunedSearchesAreNoBetter) {
  int rows = 0;
  int better = 0;
  int seen = 0;
  for (const testing::ExpectedRow& row : testing::read_expected_rows()) {
    if (!is_tuned(row)) continue;
    if (seen++ % testing::sweep(5, 1) != 0) continue;
    SearchRequest request;
    request.ranks = row.size.ranks;
    request.micro_batches = row.size.micro_batches;
    request.placements = {row.size.stages_per_rank == 1 ? PlacementKind::kOne : PlacementKind::kV};
    request.costs = CostModel(UniformCost{row.cost.f, row.cost.i, row.cost.w, {}}, row.p2p);
    request.max_activations = row.peak;
    request.rounds = 3;
    request.seconds = 600;
    SearchResult result = search(request);
    if (result.makespan.value > row.makespan) {
      request.rounds = 80;
      result = search(request);
    }
    EXPECT_LE(result.makespan.value, row.makespan) << row.line;
    better += result.makespan.value < row.makespan;
    ++rows;
  }
  EXPECT_GE(rows, 20);
  EXPECT_GE(better, rows / 10);
}

}  // namespace
}  // namespace counterflow
