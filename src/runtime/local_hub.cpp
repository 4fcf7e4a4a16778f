#include "local_hub.h"

#include "counterflow/runtime/error.h"

namespace counterflow::runtime {

void LocalHub::send(int from, int to, Parcel parcel) {
  check_failure();
  Box& box = boxes_[to];
  {
    const std::lock_guard lock(box.mutex);
    box.messages[from].push_back(std::move(parcel));
  }
  box.changed.notify_one();
}

LocalHub::Parcel LocalHub::receive(int from, int to, Timeout timeout) {
  Box& box = boxes_[to];
  std::unique_lock lock(box.mutex);
  std::deque<Parcel>& queue = box.messages[from];
  wait(box, lock, from, timeout, [&queue] { return !queue.empty(); });
  Parcel parcel = std::move(queue.front());
  queue.pop_front();
  return parcel;
}

void LocalHub::count_received(int from) {
  Box& box = boxes_[from];
  {
    const std::lock_guard lock(box.mutex);
    ++box.received;
  }
  box.changed.notify_one();
}

void LocalHub::wait_received(int from, std::int64_t sent, Timeout timeout) {
  Box& box = boxes_[from];
  std::unique_lock lock(box.mutex);
  wait(box, lock, -1, timeout, [&] { return box.received >= sent; });
}

void LocalHub::wait(Box& box, std::unique_lock<std::mutex>& lock, int for_rank, Timeout timeout,
                    const std::function<bool()>& done) {
  const auto deadline = Clock::now() + timeout;
  while (!done()) {
    check_failure();
    if (for_rank >= 0 && has_ended(for_rank)) throw PeerFailed(for_rank, "it went before it sent this");
    if (box.changed.wait_until(lock, deadline) == std::cv_status::timeout && !done())
      throw TimeoutError("nothing came in time");
  }
}

void LocalHub::meet(const std::vector<std::int32_t>& members, int rank, const std::string& call,
                    void* brought, Timeout timeout, const Act& act) {
  std::unique_lock lock(meeting_mutex_);
  check_failure();
  Meeting& meeting = meetings_[members];
  meeting.brought[rank] = brought;
  meeting.calls[rank] = call;
  if (meeting.brought.size() == members.size()) {
    finish(meeting, act);
    return;
  }
  try {
    wait_for_meeting(meeting, members, lock, timeout);
  } catch (...) {
    meeting.brought.erase(rank);  // what was brought is about to go
    throw;
  }
  if (!meeting.error.empty()) throw TransportError(meeting.error);
}

void LocalHub::finish(Meeting& meeting, const Act& act) {
  meeting.error.clear();
  const auto end = [&] {
    meeting.brought.clear();
    ++meeting.generation;
    met_.notify_all();
  };
  try {
    check_calls(meeting);
    act(meeting.brought);
  } catch (const std::exception& error) {
    meeting.error = error.what();
    end();
    throw;
  }
  end();
}

void LocalHub::check_calls(const Meeting& meeting) {
  const auto& [first, call] = *meeting.calls.begin();
  for (const auto& [rank, other] : meeting.calls)
    if (other != call)
      throw TransportError("rank " + std::to_string(rank) + " is at " + other + ", rank " +
                           std::to_string(first) + " at " + call);
}

void LocalHub::wait_for_meeting(const Meeting& meeting, const std::vector<std::int32_t>& members,
                                std::unique_lock<std::mutex>& lock, Timeout timeout) {
  const auto deadline = Clock::now() + timeout;
  const std::uint64_t generation = meeting.generation;
  while (meeting.generation == generation) {
    check_failure();
    std::string missing;
    for (const std::int32_t member : members) {
      if (meeting.brought.contains(member)) continue;
      if (has_ended(member)) throw PeerFailed(member, "it went while others waited for it");
      missing += (missing.empty() ? "" : ", ") + std::to_string(member);
    }
    if (met_.wait_until(lock, deadline) == std::cv_status::timeout && meeting.generation == generation)
      throw TimeoutError("rank " + missing + " did not come in time");
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

void LocalHub::check_failure() const {
  const std::lock_guard lock(state_mutex_);
  if (failure_) throw PeerFailed(failure_->rank, failure_->reason);
}

bool LocalHub::has_ended(int rank) const {
  const std::lock_guard lock(state_mutex_);
  return ended_[rank];
}

void LocalHub::wake_all() noexcept {
  // The locks keep a waiter from missing the change between its check and its sleep.
  for (Box& box : boxes_) {
    const std::lock_guard lock(box.mutex);
    box.changed.notify_all();
  }
  const std::lock_guard lock(meeting_mutex_);
  met_.notify_all();
}

}  // namespace counterflow::runtime
