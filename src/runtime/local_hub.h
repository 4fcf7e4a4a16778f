// What the ends of a local transport share: mailboxes, meetings of groups, and the first failure.
//
// Thread-safe. Every wait ends at its deadline or with the first failure.
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

namespace counterflow::runtime {

class LocalHub {
 public:
  explicit LocalHub(int num_ranks) : boxes_(num_ranks), ended_(num_ranks, false) {}

  int num_ranks() const { return static_cast<int>(boxes_.size()); }

  void send(int from, int to, Message message);

  /// The next message from a rank. `waited` is the text of what is waited for, made only for an error.
  Message receive(int from, int to, std::chrono::milliseconds timeout, const Pass& expected);

  /// Blocks until all members of a group have come; the last to come runs `act` with what all brought, by
  /// rank, before any goes on.
  using Act = std::function<void(const std::map<int, void*>& brought)>;
  void meet(const std::vector<std::int32_t>& members, int rank, void* brought,
            std::chrono::milliseconds timeout, const Act& act);

  void abort(int rank, std::string_view reason) noexcept;

  struct Failure {
    int rank;
    std::string reason;
  };

  /// The first abort.
  std::optional<Failure> failure() const;

  /// The rank takes no further part: whoever waits for it fails.
  void leave(int rank) noexcept;

 private:
  struct Box {
    std::mutex mutex;
    std::condition_variable arrived;
    std::map<int, std::deque<Message>> messages;  ///< by sender
  };

  struct Meeting {
    std::map<int, void*> brought;
    std::uint64_t generation = 0;
  };

  bool has_ended(int rank) const;
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
