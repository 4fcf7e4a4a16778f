// Notices when other processes of this host end, and when this one is told to.
#pragma once

#include <poll.h>

#include <chrono>
#include <string>
#include <vector>

namespace counterflow::runtime {

/// Where a process is to be found: the same text for none but itself.
std::string process_address();

class ProcessWatch {
 public:
  /// Watches those of the processes that are other ones of this host. `addresses` are of process_address().
  explicit ProcessWatch(const std::vector<std::string>& addresses);
  ~ProcessWatch();
  ProcessWatch(const ProcessWatch&) = delete;
  ProcessWatch& operator=(const ProcessWatch&) = delete;

  /// Sleeps, but no longer than until one of them ends or this process gets a signal.
  void sleep(std::chrono::microseconds time);

  /// Those that have ended since it was last asked, by their index in `addresses`.
  std::vector<int> take_ended();

 private:
  std::vector<pollfd> processes_;
  std::vector<int> indices_;
};

/// While one lives, SIGTERM does not end the process but is remembered; a second one ends it. Only where the
/// program has no handler of its own.
class TerminationScope {
 public:
  TerminationScope();
  ~TerminationScope();
  TerminationScope(const TerminationScope&) = delete;
  TerminationScope& operator=(const TerminationScope&) = delete;

  /// Leaves the handler in place for the rest of the process's life.
  void keep() { installed_ = false; }

  static bool requested();

 private:
  bool installed_ = false;
};

}  // namespace counterflow::runtime
