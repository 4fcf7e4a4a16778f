// The search: orders timed a second, the time to targets that are hard to reach, the gap over time, and what
// it finds beside zero-bubble's generators on the inputs that those were tuned to.
//   build/bin/search_bench [--benchmark_filter=target]
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/generate.h"
#include "counterflow/search.h"
#include "search/construct.h"
#include "search/evaluate.h"
#include "search/family.h"
#include "support/expected_rows.h"

namespace counterflow {
namespace {

SearchRequest v_request(int ranks, int micro_batches, const std::string& cost, int max_activations) {
  SearchRequest request;
  request.ranks = ranks;
  request.micro_batches = micro_batches;
  request.costs = CostModel(parse_uniform_cost(cost));
  request.max_activations = max_activations;
  request.placements = {PlacementKind::kV};
  return request;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// One order timed whole, on one thread.
void bench_evaluate(benchmark::State& state) {
  const int ranks = static_cast<int>(state.range(0));
  const SearchRequest request =
      v_request(ranks, static_cast<int>(state.range(1)), "f=4,i=4,w=4,fb=11", 2 * ranks + 1);
  std::vector<SearchFamily> refused;
  const searching::Family family = searching::families_of(request, refused).at(0);
  const searching::Problem problem = family.problem(std::vector<std::int64_t>(ranks, 0));
  searching::Random random(1);
  const searching::Order order = construct(problem, {}, random);
  searching::Evaluator evaluator(problem);
  for (auto _ : state) benchmark::DoNotOptimize(evaluator.evaluate(order));
  state.counters["orders/s"] = benchmark::Counter(1, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(bench_evaluate)
    ->Name("evaluate")
    ->ArgNames({"ranks", "micro_batches"})
    ->Args({4, 8})
    ->Args({8, 32})
    ->Args({64, 512})
    ->Unit(benchmark::kMicrosecond);

/// The whole search with a makespan to reach: seconds until it is there, on all cores, another seed each
/// time. `reached` is the share of seeds that got there within 20 s.
struct Target {
  const char* name;
  int ranks;
  int micro_batches;
  const char* cost;
  int max_activations;
  Time makespan;
};

constexpr Target kTargets[] = {
    {"2x4 fb=2: 21", 2, 4, "f=1,i=1,w=1,fb=2", 5, 21},
    {"2x4 fb=5: 47", 2, 4, "f=2,i=2,w=2,fb=5", 5, 47},
    {"3x6 fb=2: 32", 3, 6, "f=1,i=1,w=1,fb=2", 7, 32},
    {"4x8 fb=11: 197", 4, 8, "f=4,i=4,w=4,fb=11", 9, 197},
    {"4x8 fb=10: 192", 4, 8, "f=4,i=4,w=4,fb=10", 9, 192},
    {"4x10 fb=11: 242", 4, 10, "f=4,i=4,w=4,fb=11", 9, 242},
};

void bench_target(benchmark::State& state) {
  const Target& target = kTargets[state.range(0)];
  double seed = 0;
  double reached = 0;
  for (auto _ : state) {
    SearchRequest request =
        v_request(target.ranks, target.micro_batches, target.cost, target.max_activations);
    request.seed = static_cast<std::uint64_t>(++seed);
    request.seconds = 20;
    std::stop_source stop;
    request.stop = stop.get_token();
    request.progress = [&](const SearchProgress& progress) {
      if (progress.makespan <= Fraction{target.makespan, 1}) stop.request_stop();
    };
    const auto begin = std::chrono::steady_clock::now();
    const SearchResult result = search(request);
    state.SetIterationTime(seconds_since(begin));
    reached += result.makespan <= Fraction{target.makespan, 1} ? 1 : 0;
  }
  state.SetLabel(target.name);
  state.counters["reached"] = reached / seed;
}
BENCHMARK(bench_target)
    ->Name("target")
    ->DenseRange(0, std::size(kTargets) - 1)
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

/// What is left to prove or to improve after so many tenths of a second.
void bench_gap(benchmark::State& state) {
  SearchRequest request = v_request(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)),
                                    "f=4,i=4,w=4,fb=11", 2 * static_cast<int>(state.range(0)) + 1);
  request.seconds = static_cast<double>(state.range(2)) / 10;
  SearchResult result;
  for (auto _ : state) result = search(request);
  state.counters["makespan"] = result.makespan.to_double();
  state.counters["bound"] = result.lower_bound.to_double();
  state.counters["gap %"] = 100 * result.gap();
  state.counters["orders"] = static_cast<double>(result.num_evaluations);
}
BENCHMARK(bench_gap)
    ->Name("gap")
    ->ArgNames({"ranks", "micro_batches", "tenths"})
    ->ArgsProduct({{8}, {32}, {1, 10, 100}})
    ->Args({16, 64, 100})
    ->Args({64, 512, 600})
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kSecond);

/// All rows of one of zero-bubble's generators that were tuned to the costs of the row, a second each, within
/// the memory that theirs took. Excess: how much longer than our bound both take, on average.
void bench_zero_bubble(benchmark::State& state, const std::string& schedule) {
  double better = 0, equal = 0, worse = 0, optimal = 0, ours = 0, theirs = 0;
  for (auto _ : state) {
    for (const testing::ExpectedRow& row : testing::read_expected_rows()) {
      if (!is_tuned(row) || row.schedule != schedule) continue;
      SearchRequest request = v_request(row.size.ranks, row.size.micro_batches, "f=1", row.peak);
      request.costs = CostModel(UniformCost{row.cost.f, row.cost.i, row.cost.w, {}}, row.p2p);
      if (row.size.stages_per_rank == 1) request.placements = {PlacementKind::kOne};
      request.seconds = 1;
      const SearchResult result = search(request);
      const double bound = result.lower_bound.to_double();
      better += result.makespan.value < row.makespan ? 1 : 0;
      equal += result.makespan.value == row.makespan ? 1 : 0;
      worse += result.makespan.value > row.makespan ? 1 : 0;
      optimal += result.optimal() ? 1 : 0;
      ours += result.makespan.to_double() / bound - 1;
      theirs += static_cast<double>(row.makespan) / bound - 1;
    }
  }
  const double rows = std::max(1.0, better + equal + worse);
  state.counters["better"] = better;
  state.counters["equal"] = equal;
  state.counters["worse"] = worse;
  state.counters["optimal"] = optimal;
  state.counters["our excess %"] = 100 * ours / rows;
  state.counters["their excess %"] = 100 * theirs / rows;
}
#define COUNTERFLOW_BENCH_ZERO_BUBBLE(schedule)             \
  BENCHMARK_CAPTURE(bench_zero_bubble, schedule, #schedule) \
      ->Name("zero_bubble/" #schedule)                      \
      ->Iterations(1)                                       \
      ->UseRealTime()                                       \
      ->Unit(benchmark::kSecond)
COUNTERFLOW_BENCH_ZERO_BUBBLE(zb_heuristic);
COUNTERFLOW_BENCH_ZERO_BUBBLE(zbv);
COUNTERFLOW_BENCH_ZERO_BUBBLE(zbv_greedy_half);
COUNTERFLOW_BENCH_ZERO_BUBBLE(zbv_greedy_min);
COUNTERFLOW_BENCH_ZERO_BUBBLE(v_auto_schedule);
#undef COUNTERFLOW_BENCH_ZERO_BUBBLE

}  // namespace
}  // namespace counterflow
