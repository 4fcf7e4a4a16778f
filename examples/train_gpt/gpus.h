// Ranks as processes with a GPU each: gpus.cpp in train_gpt_gpu, no_gpus.cpp, which refuses, in train_gpt.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

#include "counterflow/runtime/recorder.h"
#include "counterflow/runtime/transport.h"
#include "options.h"

namespace train_gpt {

/// Whether this program has them.
extern const bool kHasGpus;

/// How many processes the launcher has started (counterflow/runtime/launch.h). Throws
/// counterflow::InvalidConfig where none has, or where this program has no GPUs.
int num_launched();

/// What a rank works with. The recorder is null unless the options ask for one.
struct GpuRank {
  counterflow::runtime::Transport& transport;
  c10::Device device;
  std::shared_ptr<counterflow::runtime::StepRecorder> recorder;
};

/// Runs `body` as the rank that this process is, on the GPU that its number on this host says, over the
/// transport that the options name. Computes what is computed twice with the same bits: of torch's algorithms
/// it takes those that do. Throws counterflow::Error.
void run_on_gpu(const Options& options, const std::function<void(const GpuRank&)>& body);

}  // namespace train_gpt
