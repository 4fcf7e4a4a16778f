#include "disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

constexpr mode_t kNewFileMode = 0666;                      // less the user's umask
constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // Linux moves at most 2 GiB in a call

std::string reason(int error) {
  return std::strerror(error);
}

std::string parent(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace

DiskFile DiskFile::open(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw Error("cannot read " + path + ": " + reason(errno));
  return {path, descriptor};
}

DiskFile DiskFile::create(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kNewFileMode);
  if (descriptor < 0) throw Error("cannot write " + path + ": " + reason(errno));
  return {path, descriptor};
}

DiskFile::DiskFile(DiskFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

DiskFile::~DiskFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void DiskFile::fail(const char* verb, int error) const {
  throw Error(std::string("cannot ") + verb + " " + path_ + ": " + reason(error));
}

std::uint64_t DiskFile::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail("read", errno);
  if (!S_ISREG(status.st_mode)) throw Error("cannot read " + path_ + ": it is no file");
  return static_cast<std::uint64_t>(status.st_size);
}

void DiskFile::read(std::uint64_t offset, void* bytes, std::size_t size) const {
  auto* to = static_cast<char*>(bytes);
  while (size > 0) {
    const ssize_t count = ::pread(descriptor_, to, std::min(size, kMostAtOnce), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", errno);
    if (count == 0) throw Error("cannot read " + path_ + ": it ends too early");
    to += count;
    offset += static_cast<std::uint64_t>(count);
    size -= static_cast<std::size_t>(count);
  }
}

void DiskFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kMostAtOnce));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", errno);
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void DiskFile::finish() {
  if (::fsync(descriptor_) != 0) fail("write", errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("write", errno);
}

void sync_folder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw Error("cannot read the folder " + path + ": " + reason(errno));
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  // Some file systems have no such call for folders: their names are safe without.
  if (error != 0 && error != EINVAL && error != ENOSYS)
    throw Error("cannot write the folder " + path + ": " + reason(error));
}

void replace_file(const std::string& path, const std::function<void(DiskFile&)>& write) {
  static std::atomic<unsigned> count{0};
  const std::string temporary =
      path + "." + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".partial";
  try {
    DiskFile file = DiskFile::create(temporary);
    write(file);
    file.finish();
    move_into_place(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void move_into_place(const std::string& from, const std::string& to) {
  int error = std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
  if (error == ENOTEMPTY || error == EEXIST)
    error = ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0 ? 0 : errno;
  if (error == EINVAL || error == ENOSYS) {  // a file system that cannot swap
    std::filesystem::remove_all(to);
    error = std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
  }
  if (error != 0) throw Error("cannot write " + to + ": " + reason(error));
  sync_folder(parent(to));
}

}  // namespace counterflow::runtime
