// The receives that a device waits for while its host goes on.
#pragma once

#include <chrono>
#include <deque>
#include <mutex>
#include <optional>
#include <string>

#include "counterflow/action.h"
#include "cuda_event.h"

namespace counterflow::runtime {

/// Any thread.
class DeviceWatch {
 public:
  /// `done` is when the receive is. Receives are done about in the order in which they are added.
  void add(CudaEvent done, const Pass& producer, int from);

  struct Next {
    std::string what;  ///< "1F3 from rank 1"
    int from = 0;
    std::chrono::nanoseconds waited{0};  ///< since the one before it was done
  };

  /// The receive that the device waits for.
  std::optional<Next> next();

 private:
  using Clock = std::chrono::steady_clock;

  struct Receive {
    CudaEvent done;
    Pass producer;
    int from = 0;
  };

  void drop_done();

  std::mutex mutex_;
  std::deque<Receive> receives_;
  Clock::time_point progress_;
};

}  // namespace counterflow::runtime
