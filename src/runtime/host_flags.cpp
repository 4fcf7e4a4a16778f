#include "host_flags.h"

#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "counterflow/runtime/error.h"
#include "process_token.h"

namespace counterflow::runtime {
namespace {

/// A line of a cache: what one GPU writes holds up none of the others.
constexpr std::size_t kStride = 128;

/// What a handle holds. The file is the process's own, without a name: nothing stays behind when it is
/// killed.
struct Handle {
  std::int64_t process = 0;
  std::int64_t file = 0;
  std::uint64_t bytes = 0;
  std::uint64_t token = 0;  ///< stands at the beginning of the file, too
};
static_assert(sizeof(Handle) == HostFlags::kHandleBytes);

[[noreturn]] void fail(const std::string& what, const std::string& why) {
  throw TransportError(what + ": " + why + ": use the transport over NCCL");
}

[[noreturn]] void fail(const std::string& what) {
  fail(what, std::strerror(errno));
}

/// After the token: whether the rank has left, then its flags.
constexpr std::size_t kLeft = kStride;

std::size_t offset_of(std::size_t flag) {
  return kLeft + (flag + 1) * kStride;
}

std::size_t bytes_of(std::size_t count) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (offset_of(count) + page - 1) / page * page;
}

std::atomic_ref<Flag> flag_at(const RegisteredPages& pages, std::size_t offset) {
  return std::atomic_ref(*reinterpret_cast<Flag*>(pages.data() + offset));
}

int make_file(std::size_t bytes) {
  const int file = memfd_create("counterflow flags", MFD_CLOEXEC);
  if (file < 0) fail("memory that ranks share (memfd_create)");
  if (ftruncate(file, static_cast<off_t>(bytes)) == 0) return file;
  const int error = errno;
  close(file);
  errno = error;
  fail("memory that ranks share (ftruncate)");
}

int open_file(const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) fail("memory of another rank's process, " + path);
  return file;
}

std::uint64_t next_token() {
  static std::atomic<std::uint64_t> number = 0;
  return process_token() + number++;
}

Handle parse(const std::string& bytes) {
  Handle handle;
  if (bytes.size() != sizeof handle) throw TransportError("a handle of another program's flags");
  std::memcpy(&handle, bytes.data(), sizeof handle);
  return handle;
}

/// Another process may have the same number in its container as that one in its own, and another file the
/// same number when that one was closed.
RegisteredPages open_pages(const Handle& there) {
  const std::string path = "/proc/" + std::to_string(there.process) + "/fd/" + std::to_string(there.file);
  const Descriptor file(open_file(path));
  struct stat status {};
  std::uint64_t token = 0;
  const bool is_it = fstat(file.number(), &status) == 0 && S_ISREG(status.st_mode) &&
                     static_cast<std::uint64_t>(status.st_size) == there.bytes &&
                     pread(file.number(), &token, sizeof token, 0) == sizeof token && token == there.token;
  if (!is_it) fail(path, "not what that rank has shown: it is on another host, or in another container");
  return {file.number(), there.bytes};
}

}  // namespace

Descriptor::~Descriptor() {
  close(number_);
}

RegisteredPages::RegisteredPages(int file, std::size_t bytes) : bytes_(bytes) {
  void* const pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (pages == MAP_FAILED) fail("memory that ranks share (mmap)");
  data_ = static_cast<std::byte*>(pages);
  void* reached = nullptr;
  cudaError_t status = cudaHostRegister(data_, bytes_, cudaHostRegisterMapped);
  if (status == cudaSuccess && (status = cudaHostGetDevicePointer(&reached, data_, 0)) != cudaSuccess)
    cudaHostUnregister(data_);
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // it stays behind otherwise
    munmap(data_, bytes_);
    fail("memory that ranks share (cudaHostRegister)", cudaGetErrorString(status));
  }
  on_device_ = static_cast<std::byte*>(reached);
}

RegisteredPages::~RegisteredPages() {
  cudaHostUnregister(data_);
  munmap(data_, bytes_);
}

HostFlags::HostFlags(std::size_t count)
    : count_(count),
      token_(next_token()),
      file_(make_file(bytes_of(count))),
      pages_(file_.number(), bytes_of(count)) {
  std::memcpy(pages_.data(), &token_, sizeof token_);
}

std::byte* HostFlags::on_device(std::size_t flag) const {
  return pages_.on_device() + offset_of(flag);
}

void HostFlags::raise_all() const {
  for (std::size_t flag = 0; flag < count_; ++flag) flag_at(pages_, offset_of(flag)).store(1);
}

void HostFlags::leave() const {
  flag_at(pages_, kLeft).store(1);
}

std::string HostFlags::handle() const {
  const Handle handle{getpid(), file_.number(), bytes_of(count_), token_};
  return {reinterpret_cast<const char*>(&handle), sizeof handle};
}

PeerFlags::PeerFlags(const std::string& handle) : pages_(open_pages(parse(handle))) {}

bool PeerFlags::has_left() const {
  return flag_at(pages_, kLeft).load() == 1;
}

std::byte* PeerFlags::on_device(std::size_t flag) const {
  return pages_.on_device() + offset_of(flag);
}

}  // namespace counterflow::runtime
