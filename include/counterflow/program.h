// What each rank runs: its schedule's actions with the transfers between them (the lowered schedule).
//
// The transfers assume NCCL as it is: a send is a rendezvous with its receive, messages have no tags, their
// order within a communicator is the contract, and both sides use the same groups. So every directed pair of
// ranks has a channel of its own (a communicator, and on both sides a stream) on which messages go first in,
// first out; sends never hold up compute; receives are posted ahead, in the sender's order, into a number of
// receive buffers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/schedule.h"

namespace counterflow {

enum class Op : std::uint8_t {
  kCompute,          ///< one action, when the messages it needs have arrived
  kSendForward,      ///< SEND_F: the output of this rank's stage, to the rank of the next stage
  kReceiveForward,   ///< RECV_F: the input of this rank's stage, posted; compute waits for it
  kSendBackward,     ///< SEND_B: the gradient of this rank's stage's input, to the rank of the stage before
  kReceiveBackward,  ///< RECV_B: the gradient of this rank's stage's output, posted
  kReduceGradients,  ///< REDUCE_GRAD: sums a stage's gradients over all ranks that hold a copy of it
};

struct Instruction {
  Op op = Op::kCompute;
  std::int32_t step = -1;         ///< compute: the index of its action in Schedule::actions[rank]
  std::int32_t stage = -1;        ///< transfers and reductions: this rank's stage
  std::int32_t micro_batch = -1;  ///< transfers
  std::int32_t channel = -1;      ///< transfers: in Program::channels; reductions: in Program::reductions
  std::int32_t buffer = -1;       ///< receives: which of the channel's receive buffers
  std::int32_t group = -1;        ///< neighbours with the same number ≥ 0 are issued as one group

  friend bool operator==(const Instruction&, const Instruction&) = default;
};

/// The messages from one rank to another.
struct Channel {
  std::int32_t from = 0;
  std::int32_t to = 0;
  std::int32_t messages = 0;         ///< a step
  std::int32_t receive_buffers = 0;  ///< that the program uses

  friend bool operator==(const Channel&, const Channel&) = default;
};

/// The ranks that hold copies of the same stages: a communicator for the sums of their gradients.
struct Reduction {
  std::vector<std::int32_t> ranks;  ///< ascending

  friend bool operator==(const Reduction&, const Reduction&) = default;
};

struct Program {
  std::vector<Channel> channels;  ///< by sender, then receiver
  std::vector<Reduction> reductions;
  std::vector<std::vector<Instruction>> ranks;  ///< [rank][position]
};

struct LowerOptions {
  /// Receive buffers of every channel; by default as many as the channel needs not to deadlock.
  std::optional<int> receive_buffers;
};

/// Throws InvalidConfig where verify() with the same number of receive buffers finds fault.
Program lower(const Schedule& schedule, const LowerOptions& options = {});

/// The fewest receive buffers for each channel with which the schedule does not deadlock: 1 where messages
/// are consumed in the order in which they were sent. In the order of Program::channels.
std::vector<Channel> required_channels(const Schedule& schedule);

/// Reads the transfers and reductions in a schedule's file as `counterflow lower` prints it, or in PyTorch's
/// lowered schedule CSV; nothing where it has no send and no receive. `schedule` is what parse() made of the
/// same text. A receive gets a free buffer of its channel, or one more: verify() judges the program.
/// Reductions that follow one another on the same ranks are a group; those of a stage that only one rank
/// holds are left out. Throws ParseError, and InvalidConfig where verify() finds fault with the schedule.
std::optional<Program> parse_program(std::string_view text, const Schedule& schedule,
                                     const std::string& file = "<text>");

/// "3RECV_F5", "(2F6;1B0)OVERLAP_F_B", "4REDUCE_GRAD": PyTorch's spelling.
std::string to_string(const Instruction& instruction, const std::vector<Action>& actions);

}  // namespace counterflow
