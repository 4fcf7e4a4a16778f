// Hands tensors from one thread to another where devices work behind the host's back: streams of other
// threads, or other GPUs. Nothing is done for tensors on the CPU. Needs no CUDA to compile or run.
#pragma once

#include <c10/core/Event.h>

#include <memory>
#include <vector>

#include "counterflow/runtime/tensors.h"

namespace counterflow::runtime {

/// What a thread had asked of a device when it let go of tensors there.
using DeviceEvents = std::vector<std::shared_ptr<c10::Event>>;

/// Marks the current streams of the devices on which these tensors are.
DeviceEvents devices_now(const Tensors& tensors);

/// Makes tensors that were let go of at `ready` the calling thread's: its streams wait for them, and those on
/// another device of the same kind than its current one are copied there.
void take_over(Tensors& tensors, const DeviceEvents& ready);

/// Waits until the calling thread's devices have finished these tensors.
void finish_work(const Tensors& tensors);

}  // namespace counterflow::runtime
