// Generates, verifies and simulates one large DualPipe and says what each step took.
//   build/bin/core_scale [RANKS MICRO_BATCHES]     (1024 4096)
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>

#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"

namespace {

/// What has gone by since it was made.
class Stopwatch {
 public:
  void print(const char* name) const {
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - wall_;
    const double cpu = static_cast<double>(std::clock() - cpu_) / CLOCKS_PER_SEC;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::printf("%-9s %7.3f s, %7.3f s of CPU, peak so far %5ld MiB\n", name, wall.count(), cpu,
                usage.ru_maxrss / 1024);
  }

 private:
  std::chrono::steady_clock::time_point wall_ = std::chrono::steady_clock::now();
  std::clock_t cpu_ = std::clock();
};

template <typename Step>
auto timed(const char* name, Step step) {
  const Stopwatch stopwatch;
  auto result = step();
  stopwatch.print(name);
  return result;
}

void run(int ranks, int micro_batches) {
  using namespace counterflow;
  const Stopwatch stopwatch;
  const Schedule schedule = timed(
      "generate", [&] { return generate("dualpipe", {.ranks = ranks, .micro_batches = micro_batches}); });
  const Verdict verdict = timed("verify", [&] { return verify(schedule); });
  const Simulation simulation = timed("simulate", [&] { return simulate(schedule, UniformCost{}); });
  stopwatch.print("together");

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
