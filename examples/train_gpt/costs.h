// What the model's stages take, and what that says of a run.
#pragma once

#include "counterflow/cost_model.h"
#include "counterflow/schedule.h"
#include "options.h"
#include "text.h"

namespace train_gpt {

/// In microseconds, from a few steps of 1F1B, with ranks as threads: the same stages and micro-batches under
/// another schedule than `schedule`, so that what is predicted for that was not fitted to it.
counterflow::CostModel profile(const Options& options, const Text& text,
                               const counterflow::Schedule& schedule);

}  // namespace train_gpt
