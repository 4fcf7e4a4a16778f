// Which passes of a rank may run side by side, on streams of one GPU.
#pragma once

#include <cstdint>
#include <vector>

#include "counterflow/schedule.h"

namespace counterflow::runtime {

/// Which of `number` streams is for which stage's micro-batch on a rank, [stage x num_micro_batches +
/// micro_batch], -1 for those of other ranks: a forward gets another stream than the backward that comes
/// beside or after it, and of those the one that was given away longest ago.
std::vector<std::int32_t> assign_streams(const Schedule& schedule, int rank, int number);

}  // namespace counterflow::runtime
