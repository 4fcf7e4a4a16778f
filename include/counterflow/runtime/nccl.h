// Ranks on NVIDIA GPUs, one GPU each, and the transport between them over NCCL.
//
// Every directed pair of ranks that exchange messages has a communicator of its own, and on both sides a
// stream of its own, as counterflow/program.h lays out; all are made in connect(), none later. Transfers are
// ordered with the compute stream (the current one of the device) by events: send(), post_receive(), wait()
// and flush() return without waiting for the device. Only the first message of each kind waits for the host,
// to learn its shapes.
//
// Shapes and types of what a stage sends are fixed by its first message; another one is a TransportError.
// NCCL between GPUs of one host does not report a dead peer: every rank beats in the store, and a rank whose
// beat stops, or that aborts, ends the others' communicators and with them their waits. What NCCL does find
// out between its calls is looked for all the time, and ends them as well.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "counterflow/runtime/transport.h"

namespace counterflow::runtime {

struct NcclOptions {
  /// The GPU of this rank.
  int device = 0;

  /// At most this many CTAs (thread blocks) for each transfer, so that all channels of a rank fit on the
  /// device at once beside compute. 0 leaves it to NCCL.
  int max_ctas = 8;

  /// A rank whose beat has not moved for this long counts as dead.
  std::chrono::milliseconds heartbeat_timeout = std::chrono::seconds(10);
};

/// This rank's end; waits for the other ranks, 5 minutes at most. `open_store` connects to the store that all
/// ranks share; it is called twice, since beats go over a connection of their own. Sets the calling thread's
/// device. Throws TransportError.
std::unique_ptr<Transport> make_nccl_transport(
    const std::function<c10::intrusive_ptr<c10d::Store>()>& open_store, int rank, int num_ranks,
    const NcclOptions& options = {});

}  // namespace counterflow::runtime
