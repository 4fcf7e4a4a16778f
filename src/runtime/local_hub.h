// What the ends of a local transport share: mailboxes, meetings of groups, and the first failure.
//
// Thread-safe. Every wait ends at its deadline, or with the first failure.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "counterflow/runtime/transport.h"
#include "device_order.h"

namespace counterflow::runtime {

class LocalHub {
 public:
  using Timeout = std::chrono::milliseconds;

  explicit LocalHub(int num_ranks) : boxes_(num_ranks), ended_(num_ranks, false) {}

  int num_ranks() const { return static_cast<int>(boxes_.size()); }

  /// A message, and what its sender's devices had yet to do for it.
  struct Parcel {
    Message message;
    DeviceEvents ready;
  };

  void send(int from, int to, Parcel parcel);

  /// The next message from a rank.
  Parcel receive(int from, int to, Timeout timeout);

  /// Counts messages that their receiver has copied; the sender waits until all of its own are.
  void count_received(int from);
  void wait_received(int from, std::int64_t sent, Timeout timeout);

  /// Blocks until all members of a group have come; the last to come runs `act` with what all brought, by
  /// rank, before any goes on. What `act` throws all of them throw, the others as a TransportError. `call`
  /// says what is done, and must be the same everywhere.
  using Act = std::function<void(const std::map<int, void*>& brought)>;
  void meet(const std::vector<std::int32_t>& members, int rank, const std::string& call, void* brought,
            Timeout timeout, const Act& act);

  void abort(int rank, std::string_view reason) noexcept;

  /// The rank takes no further part: whoever waits for it fails.
  void leave(int rank) noexcept;

  struct Failure {
    int rank;
    std::string reason;
  };

  /// The first abort.
  std::optional<Failure> failure() const;

 private:
  struct Box {
    std::mutex mutex;
    std::condition_variable changed;
    std::map<int, std::deque<Parcel>> messages;  ///< by sender
    std::int64_t received = 0;                   ///< of this rank's messages, by others
  };

  struct Meeting {
    std::map<int, void*> brought;
    std::map<int, std::string> calls;  ///< by rank
    std::uint64_t generation = 0;
    std::string error{};  ///< of what all did together last
  };

  using Clock = std::chrono::steady_clock;

  /// Sleeps until `done`, which is called with the box locked.
  void wait(Box& box, std::unique_lock<std::mutex>& lock, int for_rank, Timeout timeout,
            const std::function<bool()>& done);

  void finish(Meeting& meeting, const Act& act);
  static void check_calls(const Meeting& meeting);
  void wait_for_meeting(const Meeting& meeting, const std::vector<std::int32_t>& members,
                        std::unique_lock<std::mutex>& lock, Timeout timeout);

  bool has_ended(int rank) const;
  void check_failure() const;
  void wake_all() noexcept;

  std::deque<Box> boxes_;

  mutable std::mutex state_mutex_;
  std::optional<Failure> failure_;
  std::vector<char> ended_;

  std::mutex meeting_mutex_;
  std::condition_variable met_;
  std::map<std::vector<std::int32_t>, Meeting> meetings_;
};

}  // namespace counterflow::runtime
