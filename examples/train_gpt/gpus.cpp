#include "gpus.h"

#include <ATen/Context.h>
#include <c10/cuda/CUDAFunctions.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>

#include "counterflow/error.h"
#include "counterflow/runtime/cuda_recorder.h"
#include "counterflow/runtime/gpu.h"
#include "counterflow/runtime/launch.h"

namespace train_gpt {
namespace {

namespace cf = counterflow::runtime;

/// Attention's backward adds up in any order otherwise, and cuBLAS in one that depends on its workspace.
void choose_repeatable_algorithms() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

cf::GpuLink link_of(const Options& options) {
  if (options.transport == "nccl") return cf::GpuLink::kNccl;
  if (options.transport == "copy") return cf::GpuLink::kCopyEngines;
  return cf::GpuLink::kAutomatic;
}

int gpu_of(const cf::Launch& launch, bool share) {
  const int num_gpus = c10::cuda::device_count();
  if (num_gpus == 0) throw counterflow::InvalidConfig("there is no NVIDIA GPU, or no driver for it");
  if (share || num_gpus == 1) return launch.local_rank % num_gpus;  // launchers may show each its own one
  if (launch.local_rank >= num_gpus)
    throw counterflow::InvalidConfig("rank " + std::to_string(launch.rank) + " is process number " +
                                     std::to_string(launch.local_rank + 1) + " on its host, which has " +
                                     std::to_string(num_gpus) +
                                     " GPU(s): each process needs one, or --share-gpus");
  return launch.local_rank;
}

/// The rank that hosts the store stays until the others need it no more, or have taken too long.
void leave(c10d::Store& store, const cf::Launch& launch) {
  constexpr auto kLongest = std::chrono::seconds(30);
  const std::string key = "train_gpt/ended";
  std::int64_t ended = store.add(key, 1);
  const auto give_up = std::chrono::steady_clock::now() + kLongest;
  while (launch.hosts_store && ended < launch.num_ranks && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ended = store.add(key, 0);
  }
}

}  // namespace

const bool kHasGpus = true;

int num_launched() {
  return cf::read_launch().num_ranks;
}

void run_on_gpu(const Options& options, const std::function<void(const GpuRank&)>& body) {
  const cf::Launch launch = cf::read_launch();
  const int gpu = gpu_of(launch, options.share_gpus);
  choose_repeatable_algorithms();
  const auto open = [&launch] { return cf::open_store(launch); };
  const auto store = open();
  {
    const auto transport =
        cf::make_gpu_transport(open, launch.rank, launch.num_ranks,
                               {.link = link_of(options), .device = gpu, .may_share = options.share_gpus});
    try {
      body({*transport, c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(gpu)),
            options.record ? cf::make_cuda_recorder(gpu) : nullptr});
    } catch (const std::exception& error) {
      transport->abort(error.what());
      throw;
    }
  }
  leave(*store, launch);
}

}  // namespace train_gpt
