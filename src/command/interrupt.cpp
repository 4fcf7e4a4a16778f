#include "interrupt.h"

#include <chrono>
#include <cstdlib>

namespace counterflow::command {
namespace {

// `timeout`, for one, signals a program and then its process group: two signals, one request.
constexpr std::chrono::milliseconds kSameRequest{500};

}  // namespace

// The signals are blocked in all threads, and one waits for them: nothing runs in a handler.
StopOnInterrupt::StopOnInterrupt() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  waiter_ = std::jthread([this](const std::stop_token& end) {
    constexpr int kOfSignals = 128;  // the shell's exit status for a program that a signal ended
    int signal = 0;
    std::chrono::steady_clock::time_point first;
    while (sigwait(&signals_, &signal) == 0 && !end.stop_requested()) {
      const auto now = std::chrono::steady_clock::now();
      if (source_.request_stop())
        first = now;
      else if (now - first > kSameRequest)
        std::_Exit(kOfSignals + signal);
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
