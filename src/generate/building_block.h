// Schedules made of a building block: when one micro-batch meets each stage, repeated for every micro-batch.
// Source: Pipeline Parallelism with Controllable Memory (arXiv 2405.15362), sections 3 and 4.1.
#pragma once

#include <vector>

#include "counterflow/schedule.h"

namespace counterflow::generators {

/// Time is counted in slots that hold one F, I or W each; a micro-batch enters every kSlots slots, what its
/// six passes through the two stages of a rank take.
struct BuildingBlock {
  static constexpr int kSlots = 6;

  /// The slots of micro-batch 0 on its way: F of stage 0 to the last, then I of the last stage to 0. W is
  /// left out: it takes slots that are idle. Micro-batch n runs n * kSlots slots later. No two passes of a
  /// rank may meet in a slot.
  std::vector<int> slots;

  /// Passes at slots from `settled` on stay where the repetition puts them, up to the slot in which the last
  /// micro-batch enters.
  int settled = 0;
};

/// Repeats the block and squeezes the idle slots out of its two ends, without a rank ever holding more than
/// it does where the block repeats without end. Direction 0 of the placement takes all micro-batches.
std::vector<std::vector<Action>> repeat_and_squeeze(const BuildingBlock& block, const Placement& placement);

}  // namespace counterflow::generators
