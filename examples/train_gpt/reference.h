// The same training without a pipeline: what the pipelined losses are checked against.
#pragma once

#include <cstdint>
#include <vector>

#include "counterflow/schedule.h"
#include "options.h"
#include "text.h"

namespace train_gpt {

/// The losses of each micro-batch in `num_steps` steps from `first_step` and the sequence `first_position` on
/// (those of the checkpoint, where the options resume from one), by a plain loop on the calling thread:
/// forward and backward of one micro-batch after another, gradients added up in the order in which the
/// schedule adds them, AdamW.
std::vector<std::vector<float>> losses_without_pipeline(const Options& options, const Text& text,
                                                        const counterflow::Schedule& schedule,
                                                        std::int64_t first_step, std::int64_t first_position,
                                                        std::int64_t num_steps);

}  // namespace train_gpt
