#include "fake_queues.h"

#include <mutex>
#include <utility>
#include <vector>

namespace counterflow::fake {
namespace {

/// Lives as long as the process does, whose threads may be at work until the very end.
struct State {
  Queues limits;
  std::recursive_mutex driver;
  std::mutex mutex;  ///< of the following
  std::vector<std::shared_ptr<Queue>> queues;
  std::size_t given = 0;
};

State& state() {
  static State& one = *new State;
  return one;
}

}  // namespace

void set_queues(const Queues& queues) {
  state().limits = queues;
  give_queues();
}

const Queues& queues() {
  return state().limits;
}

std::shared_ptr<Queue> next_queue() {
  const std::size_t number = state().limits.number;
  if (number == 0) return nullptr;
  const std::lock_guard lock(state().mutex);
  const std::size_t next = state().given++ % number;
  if (state().queues.size() <= next) state().queues.push_back(std::make_shared<Queue>());
  return state().queues[next];
}

Work in_turn(const std::shared_ptr<Queue>& queue, Work work) {
  if (!queue) return work;
  return [queue, turn = queue->enter(), work = std::move(work)] {
    if (!queue->is_at(turn) || !work()) return false;
    queue->leave();
    return true;
  };
}

bool is_full(const std::shared_ptr<Queue>& queue) {
  return queue && queue->length() >= state().limits.room;
}

InDriver::InDriver() : is_held_(state().limits.number > 0) {
  if (is_held_) state().driver.lock();
}

InDriver::~InDriver() {
  if (is_held_) state().driver.unlock();
}

}  // namespace counterflow::fake
