#include "mapped_memory.h"

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "counterflow/runtime/error.h"
#include "cuda_event.h"
#include "process_token.h"

namespace counterflow::runtime {
namespace {

/// Handles are given out for whole blocks of this size.
constexpr std::size_t kBlock = std::size_t{2} << 20;

/// What a handle holds. Threads of one process share addresses; a process cannot open its own handles.
struct Handle {
  std::array<char, 256> host{};
  long process = 0;
  std::uint64_t token = 0;
  int device = 0;
  void* address = nullptr;
  cudaIpcMemHandle_t ipc{};
};

/// As check(). Who asked may go on without: the error must not stay behind for whatever looks for one next.
void try_to(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw TransportError(std::string(what) + ": " + cudaGetErrorString(status) +
                       ": these GPUs need the transport over NCCL");
}

Handle describe_here() {
  Handle here;
  if (gethostname(here.host.data(), here.host.size() - 1) != 0) here.host[0] = '?';
  here.process = getpid();
  here.token = process_token();
  check(cudaGetDevice(&here.device), "cudaGetDevice");
  return here;
}

void reach(int device, int other) {
  int can = 0;
  check(cudaDeviceCanAccessPeer(&can, device, other), "cudaDeviceCanAccessPeer");
  if (can == 0)
    throw TransportError("GPU " + std::to_string(device) + " cannot reach into the memory of GPU " +
                         std::to_string(other) + ": use the transport over NCCL");
  const cudaError_t status = cudaDeviceEnablePeerAccess(other, 0);
  if (status == cudaErrorPeerAccessAlreadyEnabled)
    static_cast<void>(cudaGetLastError());  // it stays behind otherwise
  else
    try_to(status, "cudaDeviceEnablePeerAccess");
}

}  // namespace

SharedMemory::SharedMemory(std::size_t bytes) {
  const std::size_t whole = (bytes + kBlock - 1) / kBlock * kBlock;
  check(cudaMalloc(reinterpret_cast<void**>(&data_), whole), "cudaMalloc");
  check(cudaMemset(data_, 0, whole), "cudaMemset");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

SharedMemory::~SharedMemory() {
  cudaFree(data_);
}

std::string SharedMemory::handle() const {
  Handle handle = describe_here();
  handle.address = data_;
  try_to(cudaIpcGetMemHandle(&handle.ipc, data_), "cudaIpcGetMemHandle");
  return {reinterpret_cast<const char*>(&handle), sizeof handle};
}

MappedMemory::MappedMemory(const std::string& bytes) {
  Handle there;
  if (bytes.size() != sizeof there) throw TransportError("a handle of another program's memory");
  std::memcpy(&there, bytes.data(), sizeof there);
  const Handle here = describe_here();
  if (here.host != there.host)
    throw TransportError(std::string("the copy engines reach GPUs of one host only; a rank is on ") +
                         there.host.data() + ", this one on " + here.host.data() +
                         ": use the transport over NCCL");
  if (here.process == there.process && here.token == there.token) {
    if (here.device != there.device) reach(here.device, there.device);
    data_ = static_cast<std::byte*>(there.address);
    return;
  }
  try_to(cudaIpcOpenMemHandle(reinterpret_cast<void**>(&data_), there.ipc, cudaIpcMemLazyEnablePeerAccess),
         "cudaIpcOpenMemHandle");
  is_opened_ = true;
}

MappedMemory::~MappedMemory() {
  if (is_opened_) cudaIpcCloseMemHandle(data_);
}

}  // namespace counterflow::runtime
