// A lowered program as the device sees it: units (a compute action, or the transfers of one group) on
// streams.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "counterflow/program.h"
#include "dataflow.h"
#include "diagnostics.h"

namespace counterflow {

/// The part that a transfer plays on its communicator.
enum class Role : std::uint8_t { kSend, kReceive, kReduce };

Role role_of(Op op);

/// The message that a send or a receive moves.
Message message_of(const Instruction& transfer);

/// Whether a pass of the placement makes the message and another one needs it.
bool exists(const Message& message, const Placement& placement);

/// "2SEND_F5": a message by the send that makes it.
std::string name_of(const Message& message);

struct Unit {
  std::vector<std::int32_t> positions;  ///< in the rank's program
  std::vector<std::int32_t> streams;    ///< that it occupies
  std::vector<std::int32_t> after;      ///< units of the same rank that must have ended first
  bool started = false;
  bool ended = false;
};

/// One rank's side of a channel or of a reduction: its operations in order.
struct End {
  std::vector<std::int32_t> positions;  ///< [operation] in the rank's program
  std::vector<std::int32_t> units;      ///< [operation]
};

/// A rank's program cut into units. Stream 0 computes; every end has a stream of its own.
struct RankUnits {
  std::vector<Unit> units;
  std::vector<std::vector<std::int32_t>> streams;                   ///< [stream][place]: units
  std::map<std::pair<Role, std::int32_t>, std::int32_t> stream_of;  ///< (role, channel or reduction)
  std::map<std::pair<Role, std::int32_t>, End> ends;                ///< (role, channel or reduction)

  const End& end(Role role, std::int32_t channel) const;
};

/// Cuts one rank's program into units and reports what is wrong with it on its own: actions that are missing
/// or out of order, transfers that are not this rank's, sends of what has not been computed, receives into a
/// buffer that may still hold another message, actions whose inputs are not received before them, reductions
/// that are missing or come before the last gradient.
RankUnits read_units(const Program& program, const Schedule& schedule, int rank, Diagnostics& found);

}  // namespace counterflow
