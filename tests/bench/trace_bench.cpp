// What a trace takes to write: events a second and bytes an event, DualPipe of growing size. An event is a
// bar, a transfer, an end of an arrow or a sample of a counter; Perfetto has two for a bar and a transfer.
//   build/bin/trace_bench
#include <benchmark/benchmark.h>

#include <cstdint>

#include "counterflow/generate.h"
#include "counterflow/render.h"

namespace counterflow {
namespace {

Timeline dualpipe(const benchmark::State& state) {
  const Schedule schedule = generate("dualpipe", {.ranks = static_cast<int>(state.range(0)),
                                                  .micro_batches = static_cast<int>(state.range(1))});
  const CostModel costs(UniformCost{.f = 5213, .i = 5104, .w = 2511, .fb = 9998}, 17);
  return make_timeline(schedule, costs, simulate(schedule, costs));
}

/// `of_a_bar` events for each bar, `of_a_transfer` for each transfer.
void bench(benchmark::State& state, std::string (*write)(std::span<const Timeline>), std::int64_t of_a_bar,
           std::int64_t of_a_transfer) {
  const Timeline timeline = dualpipe(state);
  std::int64_t events = 0;
  for (const RankTimeline& rank : timeline.ranks)
    events += of_a_bar * static_cast<std::int64_t>(rank.bars.size()) +
              static_cast<std::int64_t>(rank.activations.size());
  for (const LinkTimeline& link : timeline.links)
    events += of_a_transfer * static_cast<std::int64_t>(link.transfers.size());
  std::size_t bytes = 0;
  for (auto _ : state) bytes = write({&timeline, 1}).size();
  state.counters["events"] = static_cast<double>(events);
  state.counters["bytes/event"] = static_cast<double>(bytes) / static_cast<double>(events);
  state.counters["events/s"] =
      benchmark::Counter(static_cast<double>(events), benchmark::Counter::kIsIterationInvariantRate);
}

void grow(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"ranks", "micro_batches"})->Unit(benchmark::kMillisecond);
  bench->Args({8, 20})->Args({64, 512})->Args({256, 1024});
}

void bench_chrome(benchmark::State& state) {
  bench(state, chrome_trace, 1, 3);
}
BENCHMARK(bench_chrome)->Name("chrome_trace")->Apply(grow);

void bench_perfetto(benchmark::State& state) {
  bench(state, perfetto_trace, 2, 2);
}
BENCHMARK(bench_perfetto)->Name("perfetto_trace")->Apply(grow);

}  // namespace
}  // namespace counterflow
