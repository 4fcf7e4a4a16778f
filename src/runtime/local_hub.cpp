#include "local_hub.h"

#include <algorithm>

#include "counterflow/runtime/error.h"

namespace counterflow::runtime {

namespace {

std::string seconds(std::chrono::milliseconds time) {
  std::string text = std::to_string(static_cast<double>(time.count()) / 1000.0);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + " s";
}

}  // namespace

void LocalHub::send(int from, int to, Message message) {
  if (const auto failed = failure()) throw PeerFailed(failed->rank, failed->reason);
  Box& box = boxes_[to];
  {
    const std::lock_guard lock(box.mutex);
    box.messages[from].push_back(std::move(message));
  }
  box.arrived.notify_one();
}

Message LocalHub::receive(int from, int to, std::chrono::milliseconds timeout, const Pass& expected) {
  Box& box = boxes_[to];
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::unique_lock lock(box.mutex);
  std::deque<Message>& queue = box.messages[from];
  while (queue.empty()) {
    if (const auto failed = failure()) throw PeerFailed(failed->rank, failed->reason);
    if (has_ended(from)) throw PeerFailed(from, "it left before it sent " + to_string(expected));
    if (box.arrived.wait_until(lock, deadline) == std::cv_status::timeout && queue.empty())
      throw TimeoutError("nothing came from rank " + std::to_string(from) + " within " + seconds(timeout));
  }
  Message message = std::move(queue.front());
  queue.pop_front();
  return message;
}

void LocalHub::meet(const std::vector<std::int32_t>& members, int rank, void* brought,
                    std::chrono::milliseconds timeout, const Act& act) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::unique_lock lock(meeting_mutex_);
  Meeting& meeting = meetings_[members];
  meeting.brought[rank] = brought;
  if (meeting.brought.size() == members.size()) {
    act(meeting.brought);
    meeting.brought.clear();
    ++meeting.generation;
    met_.notify_all();
    return;
  }
  const std::uint64_t generation = meeting.generation;
  while (meeting.generation == generation) {
    if (const auto failed = failure()) throw PeerFailed(failed->rank, failed->reason);
    for (const std::int32_t member : members)
      if (!meeting.brought.contains(member) && has_ended(member))
        throw PeerFailed(member, "it left while others waited for it");
    if (met_.wait_until(lock, deadline) == std::cv_status::timeout && meeting.generation == generation)
      throw TimeoutError("not all ranks of the group came within " + seconds(timeout));
  }
}

void LocalHub::abort(int rank, std::string_view reason) noexcept {
  {
    const std::lock_guard lock(state_mutex_);
    if (!failure_) failure_ = Failure{rank, std::string(reason)};
  }
  wake_all();
}

void LocalHub::leave(int rank) noexcept {
  {
    const std::lock_guard lock(state_mutex_);
    ended_[rank] = true;
  }
  wake_all();
}

std::optional<LocalHub::Failure> LocalHub::failure() const {
  const std::lock_guard lock(state_mutex_);
  return failure_;
}

bool LocalHub::has_ended(int rank) const {
  const std::lock_guard lock(state_mutex_);
  return ended_[rank];
}

void LocalHub::wake_all() noexcept {
  // The locks keep a waiter from missing the change between its check and its sleep.
  for (Box& box : boxes_) {
    const std::lock_guard lock(box.mutex);
    box.arrived.notify_all();
  }
  const std::lock_guard lock(meeting_mutex_);
  met_.notify_all();
}

}  // namespace counterflow::runtime
