#include "counterflow/runtime/gpu.h"

#include <c10/cuda/CUDAFunctions.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <exception>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "counterflow/runtime/error.h"
#include "counterflow/runtime/log.h"
#include "cuda_event.h"
#include "host_flags.h"
#include "mapped_memory.h"
#include "process_token.h"

namespace counterflow::runtime {
namespace {

/// What every rank says, by rank.
std::vector<std::string> gather(c10d::Store& store, const std::string& name, int rank, int num_ranks,
                                const std::string& mine) {
  const std::string prefix = "counterflow/gpu/" + name + "/";
  store.set(prefix + std::to_string(rank), mine);
  std::vector<std::string> all;
  for (int other = 0; other < num_ranks; ++other) {
    try {
      const auto bytes = store.get(prefix + std::to_string(other));
      all.emplace_back(bytes.begin(), bytes.end());
    } catch (const c10::Error& error) {
      throw TransportError("rank " + std::to_string(other) +
                           " did not come: " + error.what_without_backtrace());
    } catch (const std::exception& error) {
      throw TransportError("rank " + std::to_string(other) + " did not come: " + error.what());
    }
  }
  return all;
}

/// Collective: all ranks give up for the same reason. The process that hosts the store stays until the others
/// have read what they need to see it.
[[noreturn]] void refuse(c10d::Store& store, int rank, int num_ranks, const std::string& reason) {
  try {
    gather(store, "refused", rank, num_ranks, "1");
  } catch (const TransportError&) {
    // It has left: this rank needs it no more.
  }
  throw TransportError(reason);
}

/// Which GPU, or part of one, this is, wherever it is seen from.
std::string identity_of(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return {properties.uuid.bytes, sizeof properties.uuid.bytes};
}

/// Collective. Two on one would wait for each other for ever: threads do, since what they ask of the GPU is
/// in one stream; processes that share it have it in turn.
void check_own_gpus(c10d::Store& store, int rank, int num_ranks, int device, bool may_share) {
  std::map<std::string, int> rank_on;
  std::string identity = identity_of(device);
  if (may_share) identity += std::to_string(process_token());
  const auto identities = gather(store, "identity", rank, num_ranks, identity);
  for (int other = 0; other < num_ranks; ++other) {
    const auto [known, is_new] = rank_on.emplace(identities[other], other);
    if (!is_new)
      refuse(store, rank, num_ranks,
             "ranks " + std::to_string(known->second) + " and " + std::to_string(other) +
                 " are on the same GPU: each needs one of its own (its number among those of its host; "
                 "CUDA_VISIBLE_DEVICES)");
  }
}

/// Whether memory and flags of that rank can be mapped here; what stands in the way otherwise.
std::string try_to_map(const std::string& handle) {
  try {
    const MappedMemory memory(handle.substr(HostFlags::kHandleBytes));
    const PeerFlags flags(handle.substr(0, HostFlags::kHandleBytes));
    return "yes";
  } catch (const TransportError& error) {
    return error.what();
  }
}

/// What this rank shows others, to try with.
struct Sample {
  HostFlags flags{1};
  SharedMemory memory{1};

  std::string handle() const { return flags.handle() + memory.handle(); }
};

/// Collective: whether all ranks reach into all others' memory, tried with a little of it.
bool all_reach(c10d::Store& store, int rank, int num_ranks) {
  std::string mine = "yes";
  std::optional<Sample> sample;
  std::string handle;
  try {
    handle = sample.emplace().handle();
  } catch (const TransportError& error) {
    mine = error.what();
  }
  const auto handles = gather(store, "memory", rank, num_ranks, handle);
  for (int other = 0; other < num_ranks && mine == "yes"; ++other) {
    if (other == rank) continue;
    mine = handles[other].empty() ? "rank " + std::to_string(other) + " has no memory to show"
                                  : try_to_map(handles[other]);
  }
  for (const std::string& answer : gather(store, "reach", rank, num_ranks, mine)) {
    if (answer == "yes") continue;
    log(LogLevel::kInfo, rank, "transfers go over NCCL: " + answer);
    return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<Transport> make_gpu_transport(
    const std::function<c10::intrusive_ptr<c10d::Store>()>& open_store, int rank, int num_ranks,
    const GpuOptions& options) {
  GpuLink link = options.link;
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(options.device));
  const auto store = open_store();
  check_own_gpus(*store, rank, num_ranks, options.device, options.may_share);
  if (link == GpuLink::kAutomatic)
    link = all_reach(*store, rank, num_ranks) ? GpuLink::kCopyEngines : GpuLink::kNccl;
  if (link == GpuLink::kNccl)
    return make_nccl_transport(open_store, rank, num_ranks,
                               {options.device, options.max_ctas, options.heartbeat_timeout});
  return make_copy_engine_transport(
      open_store, rank, num_ranks,
      {options.device, options.slots, options.slot_bytes, options.heartbeat_timeout});
}

}  // namespace counterflow::runtime
