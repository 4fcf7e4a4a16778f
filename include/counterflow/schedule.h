// A pipeline schedule: for each rank an ordered list of actions, and the placement they assume.
//
// A Schedule may be wrong in any way (verify() says how); it is only data. A value, safe to read from any
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/action.h"
#include "counterflow/cost.h"
#include "counterflow/placement.h"

namespace counterflow {

/// Which passes a schedule is made of.
enum class Passes : std::uint8_t {
  kTraining,  ///< every F, and for each either a B or an I and a W
  kForward,   ///< every F and nothing else: evaluation
};

/// A bubble that a schedule promises under given costs; verify() of a file holds it to that.
struct Claim {
  Time bubble = 0;  ///< the largest idle time of a rank: makespan - busy
  UniformCost cost;

  friend bool operator==(const Claim&, const Claim&) = default;
};

struct Schedule {
  std::string name;
  Placement placement;
  Passes passes = Passes::kTraining;
  std::vector<Claim> claims;
  std::vector<std::vector<Action>> actions;  ///< [rank][step]; as many lists as the placement has ranks

  int num_ranks() const { return placement.num_ranks(); }
  int num_stages() const { return placement.num_stages(); }
  int num_micro_batches() const { return placement.num_micro_batches(); }

  friend bool operator==(const Schedule&, const Schedule&) = default;
};

/// The forwards of a schedule, in its order, as a schedule of their own (for evaluation).
Schedule forward_only(const Schedule& schedule);

}  // namespace counterflow
