// What a device waits for while its host goes on.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "counterflow/action.h"
#include "cuda_event.h"

namespace counterflow::runtime {

/// Any thread. What is added is done about in that order.
class DeviceWatch {
 public:
  /// A receive, and when it is done.
  void add(CudaEvent done, const Pass& producer, int from);

  /// A replay of a recorded step. `where` says which action the device has come to.
  void add(CudaEvent done, std::function<std::string()> where);

  struct Next {
    std::string what;                    ///< "1F3 from rank 1", or the action of a replay
    int from = -1;                       ///< -1: a replay
    std::chrono::nanoseconds waited{0};  ///< since the one before it was done, or the replay's last action

    bool is_replay() const { return from < 0; }

    /// After "the GPU was": "waiting for 1F3 from rank 1", "at 0B2 of a recorded step".
    std::string state() const {
      return is_replay() ? "at " + what + " of a recorded step" : "waiting for " + what;
    }

    /// What is wrong when it has waited for too long, without how long.
    std::string fault() const {
      return is_replay() ? "a recorded step stood at " + what + " for"
                         : "nothing came for " + what + " within";
    }
  };

  /// What the device waits for.
  std::optional<Next> next();

  /// How many replays are not done yet.
  std::size_t num_replays();

 private:
  using Clock = std::chrono::steady_clock;

  struct Watched {
    CudaEvent done;
    Pass producer;
    int from = -1;
    std::function<std::string()> where{};
  };

  void add(Watched one);
  void drop_done();

  std::mutex mutex_;
  std::deque<Watched> watched_;
  std::string reached_;  ///< by the replay at hand
  Clock::time_point progress_;
};

}  // namespace counterflow::runtime
