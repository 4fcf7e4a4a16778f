// Runs a schedule under given costs, exactly, in integer time.
//
// Every rank runs its list in order. An action starts when the rank is free and its inputs have arrived: F
// needs the output of the stage before, B and I the gradient from the stage after (the last stage: its own
// F), W its own I. An overlapped pair is one action: it starts when the inputs of both its passes are there,
// and both its outputs leave at its end. Transfers hold up no rank; there are as many receive buffers as it
// takes that none ever waits. Cost grows linearly with the number of passes.
#pragma once

#include <cstdint>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/schedule.h"

namespace counterflow {

/// What one rank did. Times run from 0, the start of the first action anywhere.
struct RankResult {
  Time busy = 0;       ///< the sum of its actions
  Time idle = 0;       ///< makespan - busy
  Time span_idle = 0;  ///< last end - first start - busy (the zero-bubble papers' bubble)
  int peak_activations =
      0;  ///< stage activations held at most, each from the start of F to the end of B or W
  std::int64_t peak_activation_bytes =
      0;  ///< the same in bytes: activation_bytes until B or I ends, then weight_store_bytes
  std::int64_t static_bytes =
      0;  ///< parameters, gradients and optimizer state of its stages, each copy counted
  std::int64_t receive_bytes = 0;  ///< its receive buffers
  Time critical = 0;               ///< time of the critical path spent in its actions
};

/// One directed pair of ranks that exchange messages.
struct ChannelResult {
  std::int32_t from = 0;
  std::int32_t to = 0;
  std::int64_t messages = 0;
  Time busy = 0;  ///< the sum of its transfers' times
  int receive_buffers =
      0;  ///< messages at most between the start of their transfer and the end of what consumes them
  Time critical = 0;  ///< time of the critical path spent in its transfers, waits for the link included
};

/// A step of the critical path.
struct CriticalStep {
  std::int32_t rank = 0;
  std::int32_t step = 0;
  Time start = 0;
  Time end = 0;
  bool after_transfer =
      false;  ///< what it waited for last came from another rank; otherwise from its own rank
};

struct Simulation {
  Time makespan = 0;
  Time bubble = 0;  ///< the largest idle of a rank
  std::vector<RankResult> ranks;
  std::vector<ChannelResult> channels;      ///< by sender, then receiver
  std::vector<std::vector<Time>> start;     ///< [rank][step]
  std::vector<std::vector<Time>> end;       ///< [rank][step]
  std::vector<CriticalStep> critical_path;  ///< from the first action to the last

  /// Sum of idle over ranks x makespan; 0 for an empty schedule.
  double bubble_ratio() const;
  int peak_activations() const;  ///< of the rank that holds most
  int receive_buffers() const;   ///< of the channel that needs most
};

/// Throws InvalidConfig where the schedule cannot run to its end (verify() says why), where the costs do not
/// fit it, or where times could pass 2^62.
Simulation simulate(const Schedule& schedule, const CostModel& costs);

}  // namespace counterflow
