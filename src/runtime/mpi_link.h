// Bytes between the processes of an MPI job. Nothing in it blocks but wait(), which keeps a time limit, looks
// out for failed ranks, and drives all transfers meanwhile. Knows nothing of tensors.
//
// One thread uses it; abort() may be called from any.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "process_watch.h"

namespace counterflow::runtime {

class MpiLink {
 public:
  /// What a message is. Messages of one tag between two ranks stay in order.
  enum class Tag { kControl = 1, kHeader, kData, kExchange, kGroup };

  /// Keeps memory for as long as MPI may touch it.
  using Owner = std::shared_ptr<const void>;

  /// A message under way.
  struct Transfer {
    int peer = 0;
    bool is_receive = false;
    std::vector<MPI_Request> requests;  ///< of its pieces
    std::vector<int> sizes;
    std::size_t num_done = 0;
    std::string bytes;  ///< of one that was taken()
    Owner owner;

    bool done() const { return num_done == requests.size(); }
  };
  using TransferPtr = std::shared_ptr<Transfer>;

  /// Collective over the ranks of `parent`. MPI has been started.
  explicit MpiLink(MPI_Comm parent);

  /// Tells the others that this rank takes no further part.
  ~MpiLink();
  MpiLink(const MpiLink&) = delete;
  MpiLink& operator=(const MpiLink&) = delete;

  int rank() const { return rank_; }
  int num_ranks() const { return num_ranks_; }
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }

  TransferPtr send(int to, Tag tag, const void* data, std::size_t size, Owner owner);
  TransferPtr send(int to, Tag tag, std::string bytes);

  /// Prepares for a message of just this size; any other is an error, and never written beyond it.
  TransferPtr receive(int from, Tag tag, void* data, std::size_t size, Owner owner);

  /// Takes up the next message of any size up to `limit`, or returns nothing where none has come.
  TransferPtr take(int from, Tag tag, std::size_t limit);

  /// Returns when `missing`, called between rounds of progress, no longer names a rank that it waits for but
  /// returns kNobody. Throws PeerFailed, TimeoutError, or TransportError after SIGTERM.
  static constexpr int kNobody = -1;
  void wait(const std::function<int()>& missing);

  /// Waits for the transfers.
  void wait(const std::vector<TransferPtr>& transfers);

  /// Waits until all that was sent is out of its memory.
  void flush();

  /// Drives transfers. Throws PeerFailed after a failure.
  void progress();

  void abort(std::string_view reason) noexcept;

  /// Tells the others that this rank takes no further part, and waits until all others have told the same:
  /// for as long as it takes if nothing has failed, otherwise for `limit`. Throws where something has failed.
  void leave(std::chrono::milliseconds limit);

 private:
  using Clock = std::chrono::steady_clock;

  struct Failure {
    int rank;
    std::string reason;
  };

  // With mutex_ held:
  void advance();
  void advance(Transfer& transfer);
  void tell_all(char kind);
  void hear();
  void hear(int from, std::string_view text);
  void look_for_dead_ranks();
  bool all_have_left() const;
  TransferPtr start_send(int to, Tag tag, const void* data, std::size_t size, Owner owner);

  void check_failure();
  void check_termination();
  void say_left() noexcept;

  std::mutex mutex_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int num_ranks_ = 0;
  std::chrono::milliseconds timeout_ = std::chrono::minutes(5);
  std::list<TransferPtr> pending_;
  std::list<TransferPtr> control_;  ///< arriving
  std::vector<char> left_;          ///< [rank]
  std::vector<char> dead_;          ///< [rank]
  std::optional<Failure> failure_;  ///< the first that this rank has heard of
  std::optional<Clock::time_point> told_to_end_;
  bool said_left_ = false;
  std::optional<ProcessWatch> processes_;
};

}  // namespace counterflow::runtime
