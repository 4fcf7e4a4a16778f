// The whole run of a rank: training, and what rank 0 tells of it.
#pragma once

#include <memory>
#include <optional>

#include "counterflow/cost_model.h"
#include "counterflow/runtime/recorder.h"
#include "counterflow/runtime/transport.h"
#include "counterflow/schedule.h"
#include "options.h"
#include "text.h"

namespace train_gpt {

/// Every rank calls it with equal arguments and its own end of the transport. Rank 0 prints to standard
/// output, and at the end what `costs` predicted of a step. With a recorder, this rank's own, steps are
/// replayed and have no timeline. Throws counterflow::Error where the check against the unpipelined run
/// fails.
void run(const Options& options, const Text& text, const counterflow::Schedule& schedule,
         const std::optional<counterflow::CostModel>& costs, counterflow::runtime::Transport& transport,
         const std::shared_ptr<counterflow::runtime::StepRecorder>& recorder = {});

}  // namespace train_gpt
