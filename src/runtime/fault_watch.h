// Notices what the host does not, since it does not wait for its device: transfers that never come, recorded
// steps that stand, errors behind its back.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "device_watch.h"
#include "heartbeat.h"

namespace counterflow::runtime {

class FaultWatch {
 public:
  /// Of errors that are found elsewhere. Is given the time limit.
  using FindError = std::function<std::optional<std::string>(std::chrono::milliseconds)>;

  FaultWatch(int rank, int device, std::chrono::milliseconds heartbeat_timeout, FindError find_error)
      : rank_(rank),
        device_(device),
        heartbeat_timeout_(heartbeat_timeout),
        find_error_(std::move(find_error)) {}

  /// From now on, on two threads, until stop(): gives up through `heartbeat`, which stays until then, where
  /// there is a fault.
  void start(Heartbeat& heartbeat);
  void stop();

  /// Ranks have come: the store that they share is not slow any more.
  void note_connected() { connected_ = true; }

  /// The host is about to ask the device for something. Any thread, as the following.
  void note_asking() { host_asked_ = Clock::now(); }

  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }
  std::chrono::milliseconds timeout() const { return timeout_; }

  /// What the device has been asked for and has to wait for.
  DeviceWatch& device() { return watch_; }

  /// For the report of a failure, as a part of a sentence. What was true when it was asked for first stays,
  /// since an abort ends the device's waits. Nothing, if it does not come soon: the driver may be holding up
  /// all that ask it, until the abort. Or if no thread can be had.
  const std::string& device_waits_for();

 private:
  using Clock = std::chrono::steady_clock;

  /// By a thread that is to ask the device: otherwise CUDA would set up the first one for it. Where that
  /// fails, so has the device, which others say.
  void use_device() const;

  void watch_device();
  void watch_host();
  std::optional<std::string> find_fault();
  void ask_device();

  const int rank_;
  const int device_;
  const std::chrono::milliseconds heartbeat_timeout_;
  const FindError find_error_;
  Heartbeat* heartbeat_ = nullptr;  ///< from start() on
  DeviceWatch watch_;
  std::atomic<std::chrono::milliseconds> timeout_ = std::chrono::milliseconds(std::chrono::minutes(5));
  std::atomic<bool> connected_ = false;
  std::atomic<Clock::time_point> host_asked_ = Clock::time_point();  ///< last
  static constexpr Clock::time_point kNever = Clock::time_point::max();
  std::atomic<Clock::time_point> asks_since_ = kNever;  ///< watch_device()
  std::once_flag asked_;
  std::future<std::string> asking_;
  std::string device_waits_for_;
  std::jthread host_thread_, device_thread_;
};

}  // namespace counterflow::runtime
