// Whether the ranks' pipelines fit together.
#pragma once

#include <string>

#include "counterflow/runtime/pipeline.h"

namespace counterflow::runtime {

/// The same on all ranks whose pipelines fit together.
std::string digest(const Schedule& schedule, const PipelineOptions& options);

}  // namespace counterflow::runtime
