// Reads PyTorch's schedule CSV.
#pragma once

#include "counterflow/schedule.h"
#include "text.h"

namespace counterflow {

/// A schedule without a header: a line is a rank, and the placement is inferred. Throws ParseError.
Schedule parse_torch_csv(const Source& source);

}  // namespace counterflow
