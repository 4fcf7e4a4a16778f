// Whether a batch is one that a rank can take a step with.
#pragma once

#include "counterflow/runtime/pipeline.h"

namespace counterflow::runtime {

/// Throws InvalidConfig where not. `rank` is one of the schedule's.
void check_batch(const Batch& batch, const Schedule& schedule, int rank, const PipelineOptions& options,
                 bool training);

}  // namespace counterflow::runtime
