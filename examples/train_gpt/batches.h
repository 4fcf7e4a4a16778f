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

/// How many sequences each micro-batch of held_out_batch() has.
std::int64_t held_out_rows(int micro_batches);

/// A micro-batch whose first row begins with these bytes. Between GPUs all evaluations' messages have one
/// shape: there it is as large as those of held_out_batch(); elsewhere it holds the bytes alone.
at::Tensor sequence_to_go_on_from(std::string_view bytes, const ModelOptions& model, int micro_batches);

}  // namespace train_gpt
