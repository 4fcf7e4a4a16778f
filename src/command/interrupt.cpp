#include "interrupt.h"

#include <cstdlib>

namespace counterflow::command {

// The signals are blocked in all threads, and one waits for them: nothing runs in a handler.
StopOnInterrupt::StopOnInterrupt() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  waiter_ = std::jthread([this](const std::stop_token& end) {
    constexpr int kOfSignals = 128;  // the shell's exit status for a program that a signal ended
    int signal = 0;
    while (sigwait(&signals_, &signal) == 0 && !end.stop_requested()) {
      if (source_.stop_requested()) std::_Exit(kOfSignals + signal);
      source_.request_stop();
    }
  });
}

StopOnInterrupt::~StopOnInterrupt() {
  waiter_.request_stop();
  pthread_kill(waiter_.native_handle(), SIGINT);  // it is all that waits for one
  waiter_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace counterflow::command
