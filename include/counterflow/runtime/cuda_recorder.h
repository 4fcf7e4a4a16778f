// Steps as CUDA graphs: one launch a step instead of thousands.
#pragma once

#include <memory>

#include "counterflow/runtime/recorder.h"

namespace counterflow::runtime {

/// For PipelineOptions::recorder of the rank whose GPU this is. Everything that runs under it runs on one
/// stream of its own, which is not the device's default one: autograd remembers on which stream a parameter's
/// gradient is accumulated, and a graph cannot hold work on the default stream.
std::shared_ptr<StepRecorder> make_cuda_recorder(int device);

}  // namespace counterflow::runtime
