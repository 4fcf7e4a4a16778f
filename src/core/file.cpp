#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string_view>

#include "counterflow/error.h"
#include "counterflow/format.h"

namespace counterflow {
namespace {

// DualPipe at 1024 ranks x 4096 micro-batches takes 117 MB.
constexpr std::size_t kMostScheduleBytes = std::size_t{512} << 20;

constexpr mode_t kNewFileMode = 0666;  // less the user's umask

[[noreturn]] void fail(const char* verb, const std::string& path, int error) {
  throw Error(std::string("cannot ") + verb + " " + path + ": " + std::strerror(error));
}

/// An open file. Closed at the end of its life, or earlier by close(), which reports what went wrong.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }

  int get() const { return fd_; }
  bool close() {
    const int fd = fd_;
    fd_ = -1;
    return ::close(fd) == 0;
  }

 private:
  int fd_;
};

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

/// A name beside the target that no other writer uses, in this process or another.
std::string temporary_name(const std::string& target) {
  static std::atomic<unsigned> count{0};
  return target + "." + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".tmp";
}

/// Writes a new file and moves it over the target: a reader sees the old content or the new.
void replace_file(const std::string& path, const std::string& target, mode_t mode, bool exists,
                  std::string_view text) {
  const std::string temporary = temporary_name(target);
  Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kNewFileMode));
  if (file.get() < 0) fail("write", path, errno);
  const bool done = write_all(file.get(), text) && (!exists || ::fchmod(file.get(), mode) == 0) &&
                    ::fsync(file.get()) == 0 && file.close() &&
                    ::rename(temporary.c_str(), target.c_str()) == 0;
  if (done) return;
  const int error = errno;
  ::unlink(temporary.c_str());
  fail("write", path, error);
}

/// Writes to a device or a pipe, which must not be replaced by a file.
void write_through(const std::string& path, int fd, std::string_view text) {
  if (!write_all(fd, text)) fail("write", path, errno);
}

}  // namespace

std::string read_text(const std::string& path, std::size_t most_bytes) {
  const bool is_stdin = path == "-";
  const std::string name = is_stdin ? "standard input" : path;
  const Descriptor opened(is_stdin ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const int fd = is_stdin ? STDIN_FILENO : opened.get();
  if (fd < 0) fail("read", name, errno);

  constexpr std::size_t kFirst = 1 << 16;
  struct stat status {};
  std::string text;
  std::size_t size = 0;
  // One byte more than a regular file has, so that its end is seen without growing.
  std::size_t room = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode)
                         ? static_cast<std::size_t>(status.st_size) + 1
                         : kFirst;
  while (true) {
    text.resize(std::min(std::max(room, size + 1), most_bytes + 1));
    const ssize_t count = ::read(fd, text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", name, errno);
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
    if (size > most_bytes) {
      throw Error("cannot read " + name + ": expected at most " + std::to_string(most_bytes) +
                  " bytes, found more");
    }
    if (size == text.size()) room = 2 * size;
  }
  text.resize(size);
  return text;
}

std::string read_schedule_text(const std::string& path) {
  return read_text(path, kMostScheduleBytes);
}

Schedule parse_file(std::string_view text, const std::string& path) {
  if (path == "-") return parse(text, "<stdin>");
  Schedule schedule = parse(text, path);
  // A schedule CSV of PyTorch's has no name but its file's.
  if (schedule.name.empty() && !text.starts_with('#'))
    schedule.name = std::filesystem::path(path).stem().string();
  return schedule;
}

Schedule read_file(const std::string& path) {
  return parse_file(read_schedule_text(path), path);
}

void write_file(const std::string& path, std::string_view text) {
  if (path == "-") return write_through("standard output", STDOUT_FILENO, text);
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if (exists && !S_ISREG(status.st_mode)) {
    Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (file.get() < 0) fail("write", path, errno);
    return write_through(path, file.get(), text);
  }
  // Through links, so that they stay links.
  std::error_code ignored;
  const auto target = exists ? std::filesystem::canonical(path, ignored).string() : path;
  replace_file(path, target.empty() ? path : target, status.st_mode & 07777, exists, text);
}

}  // namespace counterflow
