// Finds parameters that several ranks have in common, where ranks are threads of one process.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "counterflow/runtime/stage.h"
#include "counterflow/runtime/transport.h"

namespace counterflow::runtime {

/// Collective. Each rank adds up gradients and updates weights by itself: throws InvalidConfig, on all ranks,
/// where a parameter that needs gradients lies in the same memory on two of them.
void refuse_shared_parameters(Transport& transport, const std::vector<std::int32_t>& stage_numbers,
                              const std::vector<std::shared_ptr<Stage>>& stages);

}  // namespace counterflow::runtime
