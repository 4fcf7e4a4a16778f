// What launched the kernels of a trace: which kind of pass, and which action where ranges name actions.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "chrome_events.h"
#include "counterflow/action.h"

namespace counterflow {

/// What a kernel was part of.
enum class Phase : std::uint8_t { kForward, kBackward, kWeightGradient, kPair, kOther };

/// What a range's name says of its kernels; nothing for most names. "2F5", "PP:2F5", "attn(F)", "mlp(W)",
/// "Backward 3", "Optimizer.step#AdamW.step".
std::optional<Phase> phase_of(std::string_view name);

/// Whether a range's name is that of an action.
bool is_action(std::string_view name);

struct Launch {
  Phase phase = Phase::kForward;
  std::int32_t range = -1;  ///< index of the event that is the range; -1 where no range said the phase
};

/// One for each event; those of events that are no kernels mean nothing. A range counts for kernels launched
/// on any thread while it lasted, the one that began last where several do: autograd has threads of its own,
/// for which the program waits.
std::vector<Launch> find_launches(const ChromeEvents& trace);

}  // namespace counterflow
