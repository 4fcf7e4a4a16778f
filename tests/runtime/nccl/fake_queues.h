// The few queues through which a device gets its work, where a test asks for them: whatever waits at the head
// of one holds up all that is behind it, of other streams, too.
//
// As CUDA's driver was seen to do: streams have eight queues, or as many as CUDA_DEVICE_MAX_CONNECTIONS says,
// in turn; more streams that wait than that hang; a queue that is full holds up the host inside the driver,
// with all other threads that call it; beside a graph that waits, streams of other priorities may be held up,
// too. That the branches of a graph take queues as streams do is assumed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "fake_device.h"

namespace counterflow::fake {

struct Queues {
  int number = 0;             ///< none: each stream has one of its own
  std::uint64_t room = 1000;  ///< for so many pieces of work in each
  bool graphs_wait = false;   ///< to destroy one waits, inside the driver, for its replay
};

/// For this process's device, before it is asked for anything.
void set_queues(const Queues& queues);

class Queue {
 public:
  std::uint64_t enter() { return last_++; }
  bool is_at(std::uint64_t turn) const { return first_ == turn; }
  void leave() { ++first_; }
  std::uint64_t length() const { return last_ - first_; }

 private:
  std::uint64_t first_ = 0;
  std::uint64_t last_ = 0;
};

const Queues& queues();

/// For a new stream, or a branch of a graph. Null where there is no limit.
std::shared_ptr<Queue> next_queue();

/// The work, from now on at the end of a queue.
Work in_turn(const std::shared_ptr<Queue>& queue, Work work);

bool is_full(const std::shared_ptr<Queue>& queue);

/// A thread's time inside the driver, which has one at a time where there is a limit to queues.
class InDriver {
 public:
  InDriver();
  ~InDriver();
  InDriver(const InDriver&) = delete;
  InDriver& operator=(const InDriver&) = delete;

 private:
  const bool is_held_;
};

}  // namespace counterflow::fake
