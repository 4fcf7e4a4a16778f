// A schedule as a picture: one line a rank, a column of four characters for each unit of time. F, I
// and W take one, B two.
#pragma once

#include <string>

#include "counterflow/schedule.h"
#include "counterflow/simulate.h"

namespace counterflow {

inline std::string timeline(const Schedule& schedule) {
  constexpr std::size_t kColumn = 4;
  const Simulation run = simulate(schedule, UniformCost{});
  std::string text;
  for (std::size_t rank = 0; rank < schedule.actions.size(); ++rank) {
    std::string line;
    for (std::size_t step = 0; step < schedule.actions[rank].size(); ++step) {
      line.resize(kColumn * static_cast<std::size_t>(run.start[rank][step]), ' ');
      line += to_string(schedule.actions[rank][step]);
    }
    text += line + "\n";
  }
  return text;
}

}  // namespace counterflow
