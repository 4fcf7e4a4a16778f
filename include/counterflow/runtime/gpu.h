// The transport between GPUs that suits where they are.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "counterflow/runtime/copy_engines.h"
#include "counterflow/runtime/nccl.h"

namespace counterflow::runtime {

/// What carries tensors between GPUs.
enum class GpuLink : std::uint8_t {
  kAutomatic,    ///< the copy engines where every rank reaches into every other's memory, NCCL elsewhere
  kCopyEngines,  ///< copy_engines.h: one host, no SM taken from compute
  kNccl          ///< nccl.h
};

struct GpuOptions {
  GpuLink link = GpuLink::kAutomatic;

  /// The GPU of this rank, and as in NcclOptions and CopyEngineOptions.
  int device = 0;
  int max_ctas = NcclOptions{}.max_ctas;
  int slots = CopyEngineOptions{}.slots;
  std::int64_t slot_bytes = CopyEngineOptions{}.slot_bytes;
  std::chrono::milliseconds heartbeat_timeout = std::chrono::seconds(10);

  /// Whether ranks that are processes may be on one GPU, to try out more of them than there are GPUs. That is
  /// slow: they have it in turn. NCCL refuses it unless the environment's NCCL_HOSTID differs from rank to
  /// rank.
  bool may_share = false;
};

/// Collective: this rank's end. All ranks give the same link. Throws TransportError, also where two ranks are
/// on one GPU and may not share it, or are threads. `open_store` connects to the store that all ranks share,
/// which holds this transport's keys alone: where there are several transports, each has a prefix of its own
/// (c10d::PrefixStore).
std::unique_ptr<Transport> make_gpu_transport(
    const std::function<c10::intrusive_ptr<c10d::Store>()>& open_store, int rank, int num_ranks,
    const GpuOptions& options = {});

}  // namespace counterflow::runtime
