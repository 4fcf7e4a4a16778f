// A GPU without a GPU: a thread that works off streams, behind the functions of CUDA's runtime that the
// transports between GPUs call. One device a process. Its memory is the host's.
//
// Kernels run on the host when they are asked for, after all that their stream was asked for before
// (fake_torch.cpp): a host that needs what a transfer brings is held up in the operator that reads it, as one
// that reads a loss is by a real device.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace counterflow::fake {

/// What a stream is asked for: called again and again, until it says that it is done.
using Work = std::function<bool()>;

void enqueue(cudaStream_t stream, Work work);

/// The stream that kernels run on.
cudaStream_t compute_stream();

/// Wait until a stream, or every stream, has nothing to do.
void synchronize(cudaStream_t stream);
void synchronize_device();

/// Calls a condition again and again until it holds.
void poll(const std::function<bool()>& condition);

}  // namespace counterflow::fake
