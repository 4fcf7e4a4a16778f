// Text that the model writes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/runtime/pipeline.h"
#include "options.h"

namespace train_gpt {

/// Collective: goes on from the prompts, one for each micro-batch, all of one length, by `num_bytes` each.
/// All ranks get all texts.
std::vector<std::string> write_on(std::vector<std::string> prompts, std::int64_t num_bytes,
                                  const ModelOptions& options, counterflow::runtime::Pipeline& pipeline,
                                  counterflow::runtime::Transport& transport);

/// A text as one line that a terminal can show.
std::string printable(const std::string& text);

}  // namespace train_gpt
