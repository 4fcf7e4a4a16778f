#include "fake_peers.h"

#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <string>

#include "fake_device.h"
#include "fake_graph.h"
#include "misuse.h"
#include "shared_memory.h"

namespace counterflow::fake {
namespace {

constexpr std::size_t kBlock = std::size_t{2} << 20;  ///< what handles are given out for
constexpr std::size_t kBlocks = 256;                  ///< of a device
constexpr std::size_t kDevices = 8;

/// All devices' memory, and which blocks are in use.
struct Peers {
  char* memory = nullptr;
  std::array<std::atomic<bool>, kDevices* kBlocks>* used = nullptr;
  std::size_t own = 0;
  std::mutex mutex;                           ///< of the following
  std::map<std::size_t, std::size_t> blocks;  ///< of this process: how many, by the first
  std::set<std::size_t> opened;               ///< of others: the first of each
};

/// Lives as long as the process does, whose threads may be at work until the very end.
Peers& peers() {
  static Peers& one = *new Peers;
  return one;
}

PeerFaults g_faults;

constexpr std::size_t kBytes = kDevices * kBlocks * kBlock;

bool is_peers(const void* address) {
  const char* const byte = static_cast<const char*>(address);
  return peers().memory != nullptr && byte >= peers().memory && byte < peers().memory + kBytes;
}

std::size_t block_of(const void* address) {
  return (static_cast<const char*>(address) - peers().memory) / kBlock;
}

void* address_of(std::size_t block) {
  return peers().memory + block * kBlock;
}

/// What a handle holds.
struct Handle {
  std::size_t first;
};

constexpr std::size_t kNone = kDevices * kBlocks;

/// The first of so many free blocks of this device, taken; kNone where there are none.
std::size_t take(std::size_t count) {
  auto& used = *peers().used;
  const auto begin = used.begin() + static_cast<std::ptrdiff_t>(peers().own * kBlocks);
  const auto end = begin + kBlocks;
  const auto first = std::search_n(begin, end, static_cast<std::ptrdiff_t>(count), false);
  if (first == end) return kNone;
  std::fill_n(first, count, true);
  return static_cast<std::size_t>(first - used.begin());
}

void check_mapped(std::size_t block) {
  if (!(*peers().used)[block]) note_misuse("a device reaches into memory that was freed");
  if (block / kBlocks == peers().own) return;
  const std::lock_guard lock(peers().mutex);
  const auto next = peers().opened.upper_bound(block);
  if (next == peers().opened.begin() || *std::prev(next) / kBlocks != block / kBlocks)
    note_misuse("a device reaches into a peer's memory that is not mapped");
}

}  // namespace

void start_peers() {
  if (peers().memory != nullptr) ::munmap(peers().memory, kBytes);
  void* const memory =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  peers().memory = static_cast<char*>(memory);
  peers().used = share<std::array<std::atomic<bool>, kDevices * kBlocks>>();
}

void be_device(int number) {
  peers().own = number;
}

PeerFaults& peer_faults() {
  return g_faults;
}

bool is_own(const void* address) {
  if (!is_peers(address)) return true;
  const std::size_t block = block_of(address);
  check_mapped(block);
  return block / kBlocks == peers().own;
}

}  // namespace counterflow::fake

namespace fake = counterflow::fake;

extern "C" {

cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  const std::size_t number = fake::g_faults.one_gpu ? fake::kDevices : fake::peers().own;
  std::memcpy(properties->uuid.bytes, &number, sizeof number);
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;  // a process has one device
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int, unsigned int) {
  return cudaErrorInvalidDevice;
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  const std::size_t count = (bytes + fake::kBlock - 1) / fake::kBlock;
  const std::lock_guard lock(fake::peers().mutex);
  const std::size_t first = fake::take(count);
  if (first == fake::kNone) return cudaErrorMemoryAllocation;
  fake::peers().blocks[first] = count;
  *memory = fake::address_of(first);
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess) return error;
  const std::lock_guard lock(fake::peers().mutex);
  const auto mine = fake::peers().blocks.extract(fake::block_of(memory));
  if (mine.empty()) return cudaErrorInvalidValue;
  for (std::size_t i = 0; i < mine.mapped(); ++i) (*fake::peers().used)[mine.key() + i] = false;
  return cudaSuccess;
}

cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  const auto copy = [=] {
    static_cast<void>(fake::is_own(to));
    static_cast<void>(fake::is_own(from));
    std::memcpy(to, from, bytes);
    return true;
  };
  return fake::enqueue(stream, copy, {to, from});
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  if (fake::g_faults.no_ipc) return cudaErrorNotSupported;
  const fake::Handle whole{fake::block_of(memory)};
  std::memcpy(handle->reserved, &whole, sizeof whole);
  return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned int) {
  if (fake::g_faults.no_opening) return cudaErrorNotSupported;
  fake::Handle whole{};
  std::memcpy(&whole, handle.reserved, sizeof whole);
  if (whole.first / fake::kBlocks == fake::peers().own) return cudaErrorDeviceUninitialized;
  const std::lock_guard lock(fake::peers().mutex);
  if (!fake::peers().opened.insert(whole.first).second) return cudaErrorAlreadyMapped;
  *memory = fake::address_of(whole.first);
  return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void* memory) {
  const std::lock_guard lock(fake::peers().mutex);
  return fake::peers().opened.erase(fake::block_of(memory)) == 1 ? cudaSuccess : cudaErrorInvalidValue;
}

}  // extern "C"
