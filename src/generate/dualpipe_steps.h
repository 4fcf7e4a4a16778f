// The eight steps that DualPipe and DualPipeV share.
#pragma once

#include <optional>
#include <vector>

#include "counterflow/action.h"
#include "counterflow/cost.h"

namespace counterflow::generators {

/// What a rank runs for one of the two streams of micro-batches that meet on it: a stage, and the first of
/// its consecutive micro-batches.
struct Lane {
  int stage = 0;
  int first_micro_batch = 0;
};

/// The order of actions of one rank. `depth` is the number of ranks from an end of the pipeline to its middle
/// (DualPipe: P/2, DualPipeV: p) and `position` counts them from that end; lane 0 comes from the near end,
/// lane 1 from the far end (or from its turn at the middle), `micro_batches` travel in each, at least 2 *
/// depth.
std::vector<Action> dualpipe_steps(int depth, int position, int micro_batches, Lane lane0, Lane lane1);

/// makespan - busy of the rank at `position`, or nothing where a pair takes less time than one of its passes
/// alone. The published (P/2 - 1)(FB + B - 3W) is this where F = I and W <= I.
std::optional<Time> dualpipe_bubble(int depth, int position, const UniformCost& cost);

}  // namespace counterflow::generators
