// Generates, verifies and simulates one large DualPipe and says what each step took.
//   build/bin/core_scale [RANKS MICRO_BATCHES]     (1024 4096)
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

template <typename Step>
auto timed(const char* name, Step step) {
  const auto start = Clock::now();
  auto result = step();
  std::printf("%-10s %8.3f s, at most %6.0f MiB so far\n", name, seconds_since(start), peak_mib());
  return result;
}

void run(int ranks, int micro_batches) {
  using namespace counterflow;
  const auto start = Clock::now();
  const Schedule schedule = timed(
      "generate", [&] { return generate("dualpipe", {.ranks = ranks, .micro_batches = micro_batches}); });
  const Verdict verdict = timed("verify", [&] { return verify(schedule); });
  const Simulation simulation = timed("simulate", [&] { return simulate(schedule, UniformCost{}); });
  std::printf("%-10s %8.3f s, at most %6.0f MiB\n", "together", seconds_since(start), peak_mib());

  std::size_t actions = 0;
  for (const auto& list : schedule.actions) actions += list.size();
  std::printf("dualpipe %d x %d: %zu actions, %s, makespan %lld\n", ranks, micro_batches, actions,
              verdict.ok() ? "verified" : "WRONG", static_cast<long long>(simulation.makespan));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 2 ? std::atoi(argv[1]) : 1024, argc > 2 ? std::atoi(argv[2]) : 4096);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "core_scale: %s\n", error.what());
    return 2;
  }
}
