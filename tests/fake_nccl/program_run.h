// Runs a lowered program on the fake of NCCL and checks what every rank computes.
//
// This is how a program maps onto CUDA and NCCL. The host issues a rank's instructions in their order and
// never waits. Compute goes to the rank's compute stream and waits by events for the receives of its inputs.
// Every channel has a communicator, and at both of its ends a stream. A send waits for the compute that
// produced its message, a receive for the compute that consumed the message before it in its buffer. Each
// reduction has a communicator and a stream of its own; a sum waits for the last compute that writes the
// stage's gradient.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "counterflow/program.h"
#include "counterflow/schedule.h"

namespace counterflow::fake_nccl {

struct RunOptions {
  std::uint32_t seed = 0;  ///< of the interleaving

  /// Transfers that a device runs at once; by default as many as the rank has channel ends and reductions.
  std::optional<int> max_resident{};

  /// Whether a stream may wait for what the host issues only later. A CUDA event that has not been recorded
  /// yet holds back nothing, so this is an error unless it is asked for.
  bool waits_for_later = false;
};

struct RunResult {
  bool finished = false;            ///< no stream hangs
  std::vector<std::string> errors;  ///< wrong inputs, work not done as the schedule says, wrong sums
  std::vector<std::string> stuck;   ///< what a hung run waits for

  bool ok() const { return finished && errors.empty(); }
  std::string text() const;
};

RunResult run(const Program& program, const Schedule& schedule, const RunOptions& options = {});

}  // namespace counterflow::fake_nccl
