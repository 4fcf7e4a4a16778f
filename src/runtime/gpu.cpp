#include "counterflow/runtime/gpu.h"

#include <c10/cuda/CUDAFunctions.h>

#include <string>
#include <vector>

#include "counterflow/runtime/error.h"
#include "counterflow/runtime/log.h"
#include "mapped_memory.h"

namespace counterflow::runtime {
namespace {

/// What every rank says, by rank.
std::vector<std::string> gather(c10d::Store& store, const std::string& name, int rank, int num_ranks,
                                const std::string& mine) {
  const std::string prefix = "counterflow/gpu/" + name + "/";
  store.set(prefix + std::to_string(rank), mine);
  std::vector<std::string> all;
  for (int other = 0; other < num_ranks; ++other) {
    const auto bytes = store.get(prefix + std::to_string(other));
    all.emplace_back(bytes.begin(), bytes.end());
  }
  return all;
}

/// Whether memory of that rank can be mapped here; what stands in the way otherwise.
std::string try_to_map(const std::string& handle) {
  try {
    const MappedMemory memory(handle);
    return "yes";
  } catch (const TransportError& error) {
    return error.what();
  }
}

/// Collective: whether all ranks reach into all others' memory, tried with a little of it.
bool all_reach(c10d::Store& store, int rank, int num_ranks) {
  const SharedMemory memory(1);
  const auto handles = gather(store, "memory", rank, num_ranks, memory.handle());
  std::string mine = "yes";
  for (int other = 0; other < num_ranks && mine == "yes"; ++other)
    if (other != rank) mine = try_to_map(handles[other]);
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
  if (link == GpuLink::kAutomatic) {
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(options.device));
    link = all_reach(*open_store(), rank, num_ranks) ? GpuLink::kCopyEngines : GpuLink::kNccl;
  }
  if (link == GpuLink::kNccl)
    return make_nccl_transport(open_store, rank, num_ranks,
                               {options.device, options.max_ctas, options.heartbeat_timeout});
  return make_copy_engine_transport(
      open_store, rank, num_ranks,
      {options.device, options.slots, options.slot_bytes, options.heartbeat_timeout});
}

}  // namespace counterflow::runtime
