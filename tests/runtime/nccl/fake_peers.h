// Memory of the fake devices that other ranks' reach into: cudaMalloc's, CUDA IPC between processes, and
// copies between devices. It lies where all processes see it, at the same addresses.
//
// The rules are those that were seen on real devices: a process cannot open its own handles; a stream's write
// of a number to a peer's memory does not arrive, a copy does; memory of a process that has died stays as
// long as others have it open; to free memory waits for the device.
#pragma once

#include <atomic>
#include <cstddef>

namespace counterflow::fake {

/// Of all processes that are forked from now on: they share the memory of so many devices.
void start_peers();

/// Which of the devices is this process's.
void be_device(int number);

/// How this process's device stands to the others. All may be set at any time.
struct PeerFaults {
  std::atomic<bool> no_ipc = false;          ///< cudaIpcGetMemHandle is not supported
  std::atomic<bool> no_opening = false;      ///< cudaIpcOpenMemHandle is not
  std::atomic<bool> no_host_memory = false;  ///< cudaHostRegister is not
  std::atomic<bool> one_gpu = false;         ///< all processes are on the same one
};
PeerFaults& peer_faults();

/// Whether memory is this device's own, or none of a device's. Notes it where it is a peer's that is not
/// mapped, or was freed.
bool is_own(const void* address);

}  // namespace counterflow::fake
