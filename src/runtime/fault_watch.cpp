#include "fault_watch.h"

#include <c10/cuda/CUDAFunctions.h>

#include <algorithm>
#include <condition_variable>
#include <exception>

#include "counterflow/runtime/log.h"

namespace counterflow::runtime {
namespace {

constexpr std::chrono::milliseconds kInterval(250);

std::string seconds(std::chrono::milliseconds time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s";
}

/// Calls `look` now and then.
void watch(const std::stop_token& end, const std::function<void()>& look) {
  std::mutex mutex;
  std::condition_variable_any ended;
  std::unique_lock lock(mutex);
  while (!end.stop_requested()) {
    ended.wait_for(lock, end, kInterval, [] { return false; });
    if (!end.stop_requested()) look();
  }
}

}  // namespace

void FaultWatch::start(Heartbeat& heartbeat) {
  heartbeat_ = &heartbeat;
  try {
    host_thread_ = std::jthread([this](const std::stop_token& end) { watch(end, [this] { watch_host(); }); });
    device_thread_ =
        std::jthread([this](const std::stop_token& end) { watch(end, [this] { watch_device(); }); });
  } catch (...) {
    stop();  // before the heartbeat is gone
    throw;
  }
}

void FaultWatch::stop() {
  device_thread_ = {};  // while the other can still free it from the driver
  host_thread_ = {};
}

void FaultWatch::use_device() const {
  static_cast<void>(c10::cuda::SetDevice(static_cast<c10::DeviceIndex>(device_)));
}

const std::string& FaultWatch::device_waits_for() {
  std::call_once(asked_, [this] {
    try {
      ask_device();
    } catch (const std::exception& error) {
      log(LogLevel::kWarn, rank_, std::string("what the GPU waits for is not known: ") + error.what());
    }
  });
  return device_waits_for_;
}

void FaultWatch::ask_device() {
  asking_ = std::async(std::launch::async, [this]() -> std::string {
    use_device();
    const auto next = watch_.next();
    return next ? "; rank " + std::to_string(rank_) + "'s GPU was " + next->state() : "";
  });
  if (asking_.wait_for(std::chrono::seconds(1)) == std::future_status::ready)
    device_waits_for_ = asking_.get();
}

/// On a thread of its own: a call of CUDA may take long. Where the device's queues are full, its driver holds
/// up all that ask it, as long as it takes the device to do something.
void FaultWatch::watch_device() {
  asks_since_ = Clock::now();
  use_device();
  if (const auto fault = heartbeat_->failure() ? std::nullopt : find_fault()) heartbeat_->abort(*fault);
  asks_since_ = kNever;
}

/// Asks nothing of the device, and says where the thread that does is stuck; the host asks for nothing then
/// either.
void FaultWatch::watch_host() {
  if (connected_) heartbeat_->check_store();
  const Clock::time_point asks_since = asks_since_;
  if (asks_since == kNever) return;
  if (Clock::now() - std::max(asks_since, host_asked_.load()) >= timeout())
    heartbeat_->abort("the GPU, whose queues are full, has taken nothing for " + seconds(timeout()));
}

/// That what is next has been so for longer than the time limit, or will be so for ever, or what others
/// found.
std::optional<std::string> FaultWatch::find_fault() {
  if (const auto next = watch_.next()) {
    if (next->waited >= timeout()) return next->fault() + " " + seconds(timeout());
    // Not at once: this rank's device may be busy with what comes before the receive.
    if (!next->is_replay() && next->waited >= std::max(heartbeat_timeout_, timeout() / 5) &&
        heartbeat_->has_left(next->from))
      return next->what + " was not sent before that rank ended";
  }
  if (const auto error = find_error_(timeout())) return *error + device_waits_for();
  return std::nullopt;
}

}  // namespace counterflow::runtime
