// Ctrl-C as a request to stop with what there is.
#pragma once

#include <csignal>
#include <stop_token>
#include <thread>

namespace counterflow::command {

/// While it lives the first SIGINT or SIGTERM stops the token instead of ending the program; another one,
/// more than half a second later, ends it. Make it before other threads.
class StopOnInterrupt {
 public:
  StopOnInterrupt();
  ~StopOnInterrupt();
  StopOnInterrupt(const StopOnInterrupt&) = delete;
  StopOnInterrupt& operator=(const StopOnInterrupt&) = delete;

  std::stop_token token() const { return source_.get_token(); }

 private:
  std::stop_source source_;
  sigset_t signals_{};
  sigset_t before_{};
  std::jthread waiter_;
};

}  // namespace counterflow::command
