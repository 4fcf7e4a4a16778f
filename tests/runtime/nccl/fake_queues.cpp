#include "fake_queues.h"

#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace counterflow::fake {
namespace {

/// Of one priority.
struct Some {
  std::vector<std::shared_ptr<Queue>> queues;
  std::size_t given = 0;
};

/// Lives as long as the process does, whose threads may be at work until the very end.
struct State {
  Queues limits;
  std::recursive_mutex driver;
  std::mutex mutex;  ///< of the following
  std::map<int, Some> by_priority;
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

std::shared_ptr<Queue> next_queue(int priority) {
  const Queues& limits = state().limits;
  if (limits.number == 0) return nullptr;
  const std::lock_guard lock(state().mutex);
  Some& some = state().by_priority[limits.by_priority ? priority : 0];
  const std::size_t next = some.given++ % limits.number;
  if (some.queues.size() <= next) some.queues.push_back(std::make_shared<Queue>());
  return some.queues[next];
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
