// How ranks exchange tensors: one interface, one contract, one file for each implementation.
//
// The contract, which assumes no more than NCCL gives (counterflow/program.h):
//
// - A Transport is one rank's end. One thread at a time uses it; abort() may be called from any.
// - connect() comes once, on every rank with equal arguments, before all but set_timeout() and all_gather().
//   It names every channel (a directed pair of ranks) and every group; nothing else is used later.
// - A channel delivers first in, first out. Messages carry no tags: the k-th send meets the k-th receive.
// - send() returns at once. The tensors may be dropped by the caller, and must not be written to before
//   flush(). A send may be a rendezvous: nobody may count on its being finished before the receive is posted.
// - Messages between the same two ranks that are under way at once never wait for one another across
//   channels: each channel makes progress by itself.
// - post_receive() numbers the buffer into which the channel's next message goes; wait() hands that message's
//   tensors over for good, after which the buffer can be posted again. Buffers of a channel are waited for in
//   any order.
// - Every call that waits ends within the time limit of set_timeout(): with what it waited for, with
//   TimeoutError, or with PeerFailed once a rank has aborted or ended. After that only abort() and the
//   destructor may be called.
// - What a rank sends never ends up outside the tensors that its receiver expects.
//
// tests/runtime/transport_test.cpp is this contract as tests, over every implementation.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/action.h"
#include "counterflow/runtime/tensors.h"

namespace counterflow::runtime {

/// Who talks to whom. Channels lead from one rank to another; the ranks of a group ascend.
struct Wiring {
  struct Channel {
    std::int32_t from = 0;
    std::int32_t to = 0;
    std::int32_t buffers = 1;  ///< receive buffers

    friend bool operator==(const Channel&, const Channel&) = default;
  };

  std::vector<Channel> channels;
  std::vector<std::vector<std::int32_t>> groups;
};

/// What travels on a channel.
struct Message {
  Pass producer;                     ///< the pass whose result this is: for messages and checks
  Tensors tensors;                   ///< of any types and shapes; undefined where there is none
  std::vector<char> differentiable;  ///< for each tensor: whether a gradient will come back for it
};

class Transport {
 public:
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int num_ranks() const = 0;

  /// Whether a StepRecorder can record its messages.
  virtual bool can_be_recorded() const { return false; }

  /// How long a call of this rank waits for others, from now on. Five minutes unless it is said.
  virtual void set_timeout(std::chrono::milliseconds timeout) = 0;

  virtual void connect(const Wiring& wiring) = 0;

  /// Says which kind of step comes: messages of a training step and of an evaluation may differ. Throws
  /// PeerFailed where that is known, so that a recorded step is not replayed for ever without the others.
  virtual void begin_step(bool training) { static_cast<void>(training); }

  /// Says that a recorded step has just been replayed on the current stream: it has to make progress within
  /// the time limit, too. `where` gives the action that the device has come to, on any thread.
  virtual void replayed(std::function<std::string()> where) { static_cast<void>(where); }

  /// Starts to send to rank `to`.
  virtual void send(int to, Message message) = 0;

  /// Prepares buffer `buffer` for the next message from rank `from`, which `producer` will have made.
  virtual void post_receive(int from, int buffer, const Pass& producer) = 0;

  /// The message of a posted buffer, when it has come. Its tensors are contiguous and belong to the caller.
  virtual Message wait(int from, int buffer) = 0;

  /// Waits until all that this rank has sent is out of its tensors.
  virtual void flush() = 0;

  /// Sums each tensor over the ranks of Wiring::groups[group], in place, in ascending order of ranks: all get
  /// the same bits. Every member gives as many tensors of the same types and shapes. One that is undefined
  /// somewhere counts as nothing there and is defined afterwards, unless it is undefined everywhere.
  virtual void all_reduce(int group, Tensors& tensors) = 0;

  /// Copies the tensors of rank `root` into those of the group's other members.
  virtual void broadcast(int group, int root, Tensors& tensors) = 0;

  /// What every rank gave, by rank. For setting up and reporting, not for a step's inner loop.
  virtual std::vector<std::string> all_gather(std::string_view bytes) = 0;

  /// Ends all ranks' waits with PeerFailed(rank(), reason). The first reason given anywhere stays.
  virtual void abort(std::string_view reason) noexcept = 0;
};

}  // namespace counterflow::runtime
