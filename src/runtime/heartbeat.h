// Notices through a store that a rank has died or given up.
//
// Every rank adds to its beat in the store and looks at the others' from a thread of its own. The first
// failure that a rank learns of stays, and is handed once to a function that must end this rank's waits.
//
// Rank 0's process may host the store: it leaves when the others know that it has ended well, and they do
// not mind then that the store is gone: each is on its own from there. Or it leaves when they know of the
// failure that ends it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

namespace counterflow::runtime {

class Heartbeat {
 public:
  struct Failure {
    int rank = 0;
    std::string reason;
  };

  /// `store` is used by this object alone. Both functions are called on the object's thread: `on_failure`
  /// once; `find_fault` between beats, and a text that it returns aborts as abort() does.
  Heartbeat(c10::intrusive_ptr<c10d::Store> store, int rank, int num_ranks, std::chrono::milliseconds timeout,
            std::function<void(const Failure&)> on_failure,
            std::function<std::optional<std::string>()> find_fault = {});

  /// Tells the others that this rank has ended well. Rank 0 waits until they have heard it, or have heard of
  /// the failure, no longer than the time-out.
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  /// Tells all ranks that this one gives up. Any thread.
  void abort(const std::string& reason) noexcept;

  std::optional<Failure> failure() const;

  /// Whether a rank is known to have ended well: rank 0 at once, another one after the time-out.
  bool has_left(int rank) const;

 private:
  struct Peer {
    std::int64_t beats = -1;
    std::chrono::nanoseconds silence{0};  ///< while the store answered
    bool ended = false;
  };

  void run();
  void tell(const std::string& reason);
  void beat();
  void look();
  void end();
  bool has_ended(int rank) const;
  void note_left(int rank);
  void fail(Failure failure);

  c10::intrusive_ptr<c10d::Store> store_;
  const int rank_;
  const std::chrono::milliseconds timeout_;
  const std::function<void(const Failure&)> on_failure_;
  const std::function<std::optional<std::string>()> find_fault_;
  const std::chrono::milliseconds interval_;
  std::vector<Peer> peers_;
  std::chrono::steady_clock::time_point looked_;
  bool host_left_ = false;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Failure> failure_;
  std::vector<char> left_;                   ///< by rank
  std::optional<std::string> abort_reason_;  ///< of this rank, not yet told
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace counterflow::runtime
