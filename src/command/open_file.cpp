#include "open_file.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX wants it declared here

namespace counterflow::command {
namespace {

#ifdef __APPLE__
constexpr const char* kOpener = "open";
bool has_desktop() {
  return true;
}
#else
constexpr const char* kOpener = "xdg-open";
// Without a display xdg-open would start a browser in the terminal.
bool has_desktop() {
  return std::getenv("DISPLAY") != nullptr || std::getenv("WAYLAND_DISPLAY") != nullptr;
}
#endif

}  // namespace

bool open_file(const std::string& path) {
  if (!has_desktop()) return false;
  std::string opener = kOpener;
  std::string argument = path;
  char* arguments[] = {opener.data(), argument.data(), nullptr};
  posix_spawn_file_actions_t actions;
  if (posix_spawn_file_actions_init(&actions) != 0) return false;
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
    posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  const bool started = posix_spawnp(&child, kOpener, &actions, nullptr, arguments, environ) == 0;
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  return started && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace counterflow::command
