// Whether the runtime takes the time that the simulator says: every generator at 8 ranks x 20 micro-batches,
// ranks as threads, with stages that sleep for given times, which differ from stage to stage. Prints the
// table that README quotes; exit status 1 where a step differs by more than 2 %.
// On a machine that does other work `chrt -f 1` wakes the sleepers in time.
//   [chrt -f 1] build/bin/sleeping_stages [MICROSECONDS a unit of time, by default 10000]
#include <ATen/ops/ones.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../runtime/sleeping_stage.h"
#include "counterflow/generate.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/pipeline.h"
#include "counterflow/simulate.h"

namespace counterflow::runtime {
namespace {

constexpr int kRanks = 8;
constexpr int kMicroBatches = 20;
constexpr int kSteps = 3;

using Clock = std::chrono::steady_clock;

/// Stages of 2 to 3 units forward, 2 to 4 for the input gradient and 1 to 2 for the weights; an overlapped
/// pair takes three quarters of its passes. A rank with two stages in each direction has half as much in
/// each.
CostModel costs_for(const Schedule& schedule, Time unit) {
  CostModel costs;
  costs.stages.clear();
  unit = unit * kRanks / schedule.num_stages();
  for (int stage = 0; stage < schedule.num_stages(); ++stage)
    costs.stages.push_back({.f = unit * (4 + stage % 3) / 2,
                            .i = unit * (2 + stage % 2 + (stage == schedule.num_stages() - 1)),
                            .w = unit * (1 + (stage % 4 == 3))});
  for (int f = 0; f < schedule.num_stages(); ++f)
    for (int b = 0; b < schedule.num_stages(); ++b)
      costs.overlaps[{f, b}] = (costs.stages[f].f + costs.stages[b].i + costs.stages[b].w) * 3 / 4;
  return costs;
}

/// From the first rank's begin to the last one's end, the median of some steps.
double measure_us(const Schedule& schedule, const CostModel& costs) {
  std::vector<std::vector<Clock::time_point>> begins(kSteps), ends(kSteps);
  for (auto* times : {&begins, &ends})
    for (auto& of_step : *times) of_step.resize(kRanks);
  run_local(kRanks, [&](Transport& transport) {
    Pipeline pipeline(schedule, transport,
                      [&](int stage) { return std::make_shared<SleepingStage>(costs, stage); },
                      {.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); }});
    Batch batch;
    batch.inputs.assign(kMicroBatches, {at::ones({1})});
    batch.targets = batch.inputs;
    for (int step = 0; step < kSteps; ++step) {
      transport.all_gather("");
      begins[step][transport.rank()] = Clock::now();
      pipeline.step(batch);
      ends[step][transport.rank()] = Clock::now();
    }
  });
  std::vector<double> times;
  for (int step = 0; step < kSteps; ++step) {
    const auto begin = *std::min_element(begins[step].begin(), begins[step].end());
    const auto end = *std::max_element(ends[step].begin(), ends[step].end());
    times.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + kSteps / 2, times.end());
  return times[kSteps / 2];
}

int run(Time unit) {
  std::printf("%d ranks x %d micro-batches, median of %d steps\n\n", kRanks, kMicroBatches, kSteps);
  std::printf("%-24s %12s %12s %11s\n", "schedule", "simulated ms", "measured ms", "difference");
  bool all_close = true;
  for (const Generator* generator : all_generators()) {
    const Size size{kRanks, kMicroBatches, generator->stages_per_rank};
    if (!generator->fits(size)) {
      std::printf("%-24s does not fit\n", std::string(generator->name).c_str());
      continue;
    }
    const Schedule schedule = generate(*generator, size);
    const CostModel costs = costs_for(schedule, unit);
    const auto simulated = static_cast<double>(simulate(schedule, costs).makespan);
    const double measured = measure_us(schedule, costs);
    const double difference = measured / simulated - 1;
    all_close &= std::abs(difference) <= 0.02;
    std::printf("%-24s %12.1f %12.1f %+9.2f %%\n", std::string(generator->name).c_str(), simulated / 1e3,
                measured / 1e3, difference * 100);
    std::fflush(stdout);
  }
  return all_close ? 0 : 1;
}

}  // namespace
}  // namespace counterflow::runtime

int main(int argc, char** argv) {
  const long long unit = argc > 1 ? std::atoll(argv[1]) : 10000;
  if (unit < 1 || unit > 1'000'000) {
    std::fprintf(stderr, "sleeping_stages: a unit of 1 to 1000000 microseconds is expected\n");
    return 2;
  }
  return counterflow::runtime::run(unit);
}
