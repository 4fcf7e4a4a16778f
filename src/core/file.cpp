#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>

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

  constexpr std::size_t kBlock = 1 << 20;
  struct stat status {};
  const bool is_regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  // A regular file is one block, and a byte more, so that its end is seen without another. What has no size
  // is many, and not a text that doubles: an endless one takes no more memory than the limit.
  std::size_t room = is_regular ? std::min(static_cast<std::size_t>(status.st_size), most_bytes) + 1 : kBlock;
  std::deque<std::string> blocks;
  std::size_t size = 0;
  std::size_t filled = 0;  // of the last block
  while (true) {
    if (blocks.empty() || filled == blocks.back().size()) {
      blocks.emplace_back(room, '\0');
      room = kBlock;
      filled = 0;
    }
    const ssize_t count = ::read(fd, blocks.back().data() + filled, blocks.back().size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", name, errno);
    if (count == 0) break;
    filled += static_cast<std::size_t>(count);
    size += static_cast<std::size_t>(count);
    if (size > most_bytes) {
      throw Error("cannot read " + name + ": expected at most " + std::to_string(most_bytes) +
                  " bytes, found more");
    }
  }
  blocks.back().resize(filled);
  if (blocks.size() == 1) return std::move(blocks.front());
  std::string text;
  text.reserve(size);
  for (; !blocks.empty(); blocks.pop_front()) text += blocks.front();
  return text;
}

std::string read_schedule_text(const std::string& path) {
  std::string text = read_text(path, kMostScheduleBytes);
  // Spreadsheets mark a text of theirs as UTF-8.
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  return text;
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
