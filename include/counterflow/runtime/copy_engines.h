// The transport between GPUs of one host whose transfers take no SM: the copy engines move the tensors.
//
// A send copies into memory of the receiving GPU that was mapped at the start (CUDA IPC between processes),
// and then raises a flag; the receiving stream waits for the flag, copies out, and raises one back. Both
// waits are the stream's own (cuStreamBatchMemOp), so that the host never waits and a step can be recorded.
// Beside NCCL, whose kernels hold SMs while they wait for the other side, compute runs undisturbed.
//
// Flags lie in memory of the host that the ranks share: where a rank has died the others end their streams'
// waits by plain stores. What a stream would be asked for then may never be done, behind one that waits.
//
// Everything else is as over NCCL (nccl.h): one GPU a rank, shapes fixed by the first message, a rank that
// dies is noticed by its heartbeat.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "counterflow/runtime/transport.h"

namespace counterflow::runtime {

struct CopyEngineOptions {
  /// The GPU of this rank.
  int device = 0;

  /// Memory on the receiver's GPU for what is under way on a channel: so many slots of so many bytes. A
  /// message takes as many slots as it needs, one after the other.
  int slots = 4;
  std::int64_t slot_bytes = std::int64_t{8} << 20;

  /// A rank whose beat has not moved for this long counts as dead.
  std::chrono::milliseconds heartbeat_timeout = std::chrono::seconds(10);
};

/// This rank's end. Ranks are threads of one process, or processes of one user and container, on one host,
/// whose GPUs reach into one another's memory; otherwise connect() throws TransportError that says so.
/// `open_store` as for make_nccl_transport().
std::unique_ptr<Transport> make_copy_engine_transport(
    const std::function<c10::intrusive_ptr<c10d::Store>()>& open_store, int rank, int num_ranks,
    const CopyEngineOptions& options = {});

}  // namespace counterflow::runtime
