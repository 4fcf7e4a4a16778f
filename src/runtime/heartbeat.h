// Notices through a store that a rank has died or given up.
//
// Every rank adds to its beat in the store, and from a thread of its own looks at that of the next rank which
// has not ended, of the first after the last: so each is looked at, and the store has as much to do as there
// are ranks. Who misses a beat tells all. The first failure that a rank learns of stays, and is handed once
// to a function that must end this rank's waits.
//
// Rank 0's process may host the store: it leaves when the others know that it has ended well, and they do
// not mind then that the store is gone: each is on its own from there. Or it leaves when they know of the
// failure that ends it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace counterflow::runtime {

class Heartbeat {
 public:
  struct Failure {
    int rank = 0;
    std::string reason;
  };

  /// `store` is used by this object alone. `on_failure` is called once, on the object's thread or by
  /// check_store().
  Heartbeat(c10::intrusive_ptr<c10d::Store> store, int rank, int num_ranks, std::chrono::milliseconds timeout,
            std::function<void(const Failure&)> on_failure);

  /// Tells the others that this rank has ended well. Rank 0 waits until they have heard it, or have heard of
  /// the failure, no longer than the time-out.
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  /// Tells all ranks that this one gives up. Any thread.
  void abort(const std::string& reason) noexcept;

  std::optional<Failure> failure() const;

  /// Looks at that rank's beat, too, which has_left() needs. Any thread.
  void watch(int rank);

  /// Whether a rank is known to have ended well: rank 0 at once, one that is watched after the time-out.
  bool has_left(int rank) const;

  /// Fails where the store has been asked something and has said nothing for longer than the time-out, as
  /// that of a host without power. To be called again and again by another thread than the object's, which
  /// is stuck then.
  void check_store();

 private:
  class Beats;

  const std::shared_ptr<Beats> beats_;  ///< outlives this object where its thread stays stuck
  std::thread thread_;
};

}  // namespace counterflow::runtime
