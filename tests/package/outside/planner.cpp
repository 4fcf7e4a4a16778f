// Generates and simulates a schedule through the installed library. 66 is DualPipe's makespan at 8 ranks x 20
// micro-batches where every pass takes 1 and overlapping gains nothing.
#include <iostream>

#include "counterflow/generate.h"
#include "counterflow/simulate.h"

int main() {
  const auto schedule = counterflow::generate("dualpipe", {.ranks = 8, .micro_batches = 20});
  const auto simulation = counterflow::simulate(schedule, counterflow::UniformCost{});
  std::cout << "makespan " << simulation.makespan << '\n';
  return simulation.makespan == 66 ? 0 : 1;
}
