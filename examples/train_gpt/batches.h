// Text as tensors.
#pragma once

#include <cstdint>
#include <string_view>

#include "counterflow/runtime/pipeline.h"
#include "options.h"
#include "text.h"

namespace train_gpt {

/// The batch that begins with sequence number `position` of the run. Equal on all ranks.
counterflow::runtime::Batch training_batch(const Options& options, const Text& text, std::int64_t position,
                                           int micro_batches);

/// The sequences that every held-out loss is measured on, evenly spread over the held-out text.
counterflow::runtime::Batch held_out_batch(const Options& options, const Text& text, int micro_batches);

/// One sequence: 1 × length.
at::Tensor bytes_as_tensor(std::string_view bytes);

}  // namespace train_gpt
