// What each step of the core takes on DualPipe as it grows: 8 x 20, 16 x 64, 32 x 128 ... 1024 x 4096.
// `actions/s` counts the entries of the ranks' lists; BigO is the time of one (in ns) on a straight line
// through all sizes, RMS how far they lie off it.
//   build/bin/core_bench [--benchmark_filter=simulate]
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/program.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"

namespace counterflow {
namespace {

std::int64_t num_actions(const Schedule& schedule) {
  std::int64_t count = 0;
  for (const auto& list : schedule.actions) count += static_cast<std::int64_t>(list.size());
  return count;
}

Schedule dualpipe(const benchmark::State& state) {
  return generate("dualpipe", {.ranks = static_cast<int>(state.range(0)),
                               .micro_batches = static_cast<int>(state.range(1))});
}

void count_actions(benchmark::State& state, const Schedule& schedule) {
  const std::int64_t actions = num_actions(schedule);
  state.SetComplexityN(actions);
  state.counters["actions"] = static_cast<double>(actions);
  state.counters["actions/s"] =
      benchmark::Counter(static_cast<double>(actions), benchmark::Counter::kIsIterationInvariantRate);
}

void grow(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"ranks", "micro_batches"})->Args({8, 20});
  for (const int ranks : {16, 32, 64, 128, 256, 512, 1024}) bench->Args({ranks, 4 * ranks});
  bench->Unit(benchmark::kMillisecond)->Complexity(benchmark::oN);
}

void bench_generate(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(dualpipe(state));
  count_actions(state, dualpipe(state));
}
BENCHMARK(bench_generate)->Name("generate")->Apply(grow);

void bench_verify(benchmark::State& state) {
  const Schedule schedule = dualpipe(state);
  for (auto _ : state) benchmark::DoNotOptimize(verify(schedule));
  count_actions(state, schedule);
}
BENCHMARK(bench_verify)->Name("verify")->Apply(grow);

void bench_simulate(benchmark::State& state) {
  const Schedule schedule = dualpipe(state);
  const CostModel costs = UniformCost{.f = 1, .i = 1, .w = 1, .fb = 3};
  for (auto _ : state) benchmark::DoNotOptimize(simulate(schedule, costs));
  count_actions(state, schedule);
}
BENCHMARK(bench_simulate)->Name("simulate")->Apply(grow);

void bench_lower(benchmark::State& state) {
  const Schedule schedule = dualpipe(state);
  for (auto _ : state) benchmark::DoNotOptimize(lower(schedule));
  count_actions(state, schedule);
}
BENCHMARK(bench_lower)->Name("lower")->Apply(grow);

void bench_format(benchmark::State& state) {
  const Schedule schedule = dualpipe(state);
  for (auto _ : state) benchmark::DoNotOptimize(format(schedule));
  count_actions(state, schedule);
}
BENCHMARK(bench_format)->Name("format")->Apply(grow);

void bench_parse(benchmark::State& state) {
  const Schedule schedule = dualpipe(state);
  const std::string text = format(schedule);
  for (auto _ : state) benchmark::DoNotOptimize(parse(text));
  count_actions(state, schedule);
}
BENCHMARK(bench_parse)->Name("parse")->Apply(grow);

}  // namespace
}  // namespace counterflow
