#include "process_watch.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <csignal>
#include <fstream>

namespace counterflow::runtime {
namespace {

/// What process ids are unique within: a start of a kernel, and a namespace of it.
std::string pid_space() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::array<char, 64> name{};
  const ssize_t length = ::readlink("/proc/self/ns/pid", name.data(), name.size());
  return boot + " " + std::string(name.data(), length > 0 ? length : 0);
}

volatile std::sig_atomic_t termination_requested = 0;

extern "C" void on_termination(int signal) {
  if (termination_requested != 0) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
  }
  termination_requested = 1;
}

}  // namespace

std::string process_address() {
  return std::to_string(::getpid()) + " " + pid_space();
}

ProcessWatch::ProcessWatch(const std::vector<std::string>& addresses) {
  const std::string here = " " + pid_space();
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    if (!addresses[i].ends_with(here)) continue;
    pid_t process = 0;
    std::from_chars(addresses[i].data(), addresses[i].data() + addresses[i].size(), process);
    if (process <= 0 || process == ::getpid()) continue;
    // Kernels before 5.3 have none: then the death of a process is mpirun's to tell.
    const int descriptor = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
    if (descriptor < 0) continue;
    processes_.push_back({descriptor, POLLIN, 0});
    indices_.push_back(static_cast<int>(i));
  }
}

ProcessWatch::~ProcessWatch() {
  for (const pollfd& process : processes_) ::close(process.fd);
}

void ProcessWatch::sleep(std::chrono::microseconds time) {
  const timespec limit{.tv_sec = time.count() / 1000000, .tv_nsec = time.count() % 1000000 * 1000};
  ::ppoll(processes_.data(), processes_.size(), &limit, nullptr);
}

std::vector<int> ProcessWatch::take_ended() {
  std::vector<int> ended;
  if (::poll(processes_.data(), processes_.size(), 0) <= 0) return ended;
  for (std::size_t i = processes_.size(); i-- > 0;) {
    if (processes_[i].revents == 0) continue;
    ended.push_back(indices_[i]);
    ::close(processes_[i].fd);
    processes_.erase(processes_.begin() + static_cast<std::ptrdiff_t>(i));
    indices_.erase(indices_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return ended;
}

TerminationScope::TerminationScope() {
  struct sigaction now {};
  ::sigaction(SIGTERM, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL) return;
  termination_requested = 0;
  struct sigaction ours {};
  ours.sa_handler = on_termination;
  installed_ = ::sigaction(SIGTERM, &ours, nullptr) == 0;
}

TerminationScope::~TerminationScope() {
  if (installed_) ::signal(SIGTERM, SIG_DFL);
}

bool TerminationScope::requested() {
  return termination_requested != 0;
}

}  // namespace counterflow::runtime
