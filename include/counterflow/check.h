// Holds a schedule to what it claims and to what its user allows. Safe to call from any thread.
#pragma once

#include <optional>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/schedule.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"

namespace counterflow {

/// What a schedule may take at most under given costs.
struct Limits {
  std::optional<double> max_bubble_ratio;  ///< of Simulation::bubble_ratio()
  std::optional<Time> max_bubble;          ///< of the rank that idles most
  std::optional<Time> max_makespan;
};

/// One Rule::kLimit diagnostic for each limit that the simulation passes.
std::vector<Diagnostic> check(const Simulation& simulation, const Limits& limits);

/// A Rule::kLimit diagnostic where a rank's activations, parameters with gradients and optimizer state, and
/// receive buffers take more bytes than CostModel::memory() of it: for the rank that lacks most.
std::vector<Diagnostic> check_memory(const Simulation& simulation, const CostModel& costs);

/// One Rule::kClaim diagnostic for each claim of the schedule that its simulation does not bear out. Throws
/// InvalidConfig where the schedule cannot run.
std::vector<Diagnostic> check_claims(const Schedule& schedule);

/// All that is known of a schedule: `simulation` is there where it verifies, whatever its claims and limits.
struct Judgement {
  Verdict verdict;
  std::optional<Simulation> simulation;
};

/// verify(), and where that finds nothing, check_claims(), and check() and check_memory() of the simulation
/// under `costs`. Throws InvalidConfig where the costs do not fit the schedule.
Judgement judge(const Schedule& schedule, const VerifyOptions& options, const CostModel& costs,
                const Limits& limits);

}  // namespace counterflow
