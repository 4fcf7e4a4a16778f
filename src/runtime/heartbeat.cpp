#include "heartbeat.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace counterflow::runtime {
namespace {

constexpr std::chrono::milliseconds kInterval(250);
constexpr const char* kAbortKey = "counterflow/abort";

std::string beat_key(int rank) {
  return "counterflow/beat/" + std::to_string(rank);
}
std::string end_key(int rank) {
  return "counterflow/end/" + std::to_string(rank);
}
std::string heard_key(int rank) {
  return "counterflow/heard/" + std::to_string(rank);
}

}  // namespace

Heartbeat::Heartbeat(c10::intrusive_ptr<c10d::Store> store, int rank, int num_ranks,
                     std::chrono::milliseconds timeout, std::function<void(const Failure&)> on_failure,
                     std::function<std::optional<std::string>()> find_fault)
    : store_(std::move(store)),
      rank_(rank),
      timeout_(timeout),
      on_failure_(std::move(on_failure)),
      find_fault_(std::move(find_fault)),
      interval_(std::min(kInterval, timeout / 8)),
      peers_(num_ranks),
      left_(num_ranks),
      thread_([this] { run(); }) {}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Heartbeat::abort(const std::string& reason) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (!abort_reason_) abort_reason_ = reason;
  } catch (...) {
    return;  // out of memory: the others notice that the beat stops
  }
  changed_.notify_all();
}

std::optional<Heartbeat::Failure> Heartbeat::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

bool Heartbeat::has_left(int rank) const {
  const std::lock_guard lock(mutex_);
  return left_.at(rank) != 0;
}

void Heartbeat::run() {
  looked_ = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  bool told = false;
  while (!stopping_ || (abort_reason_ && !told)) {
    const std::optional<std::string> reason = told ? std::nullopt : abort_reason_;
    lock.unlock();
    try {
      if (reason) {
        told = true;
        tell(*reason);
      }
      if (!host_left_) {
        beat();
        look();
      }
      if (const auto fault = find_fault_ ? find_fault_() : std::nullopt) abort(*fault);
    } catch (const std::exception& error) {
      fail({0, std::string("the store that the ranks share does not answer any more: ") + error.what()});
    }
    lock.lock();
    changed_.wait_for(lock, interval_, [&] { return stopping_ || (abort_reason_ && !told); });
  }
  lock.unlock();
  try {
    if (!host_left_) end();
  } catch (const std::exception&) {
    // The store is gone: so are the ranks that would have looked.
  }
}

/// A rank that has failed may be dead and is not waited for.
void Heartbeat::end() {
  if (!failure_) store_->set(end_key(rank_), "1");
  if (rank_ != 0) return;
  const auto give_up = std::chrono::steady_clock::now() + timeout_;
  for (int rank = 1; rank < static_cast<int>(peers_.size()); ++rank) {
    if (failure_ && failure_->rank == rank) continue;
    while (!has_ended(rank) && !store_->check({heard_key(rank)}) &&
           std::chrono::steady_clock::now() < give_up)
      std::this_thread::sleep_for(interval_ / 4);
  }
}

void Heartbeat::tell(const std::string& reason) {
  if (host_left_)
    fail({rank_, reason});
  else
    store_->compareSet(kAbortKey, "", std::to_string(rank_) + " " + reason);
}

bool Heartbeat::has_ended(int rank) const {
  return store_->check({end_key(rank)});
}

void Heartbeat::beat() {
  store_->add(beat_key(rank_), 1);
}

void Heartbeat::look() {
  if (failure_) return;
  if (store_->check({kAbortKey})) {
    const auto bytes = store_->get(kAbortKey);
    const std::string text(bytes.begin(), bytes.end());
    const std::size_t space = text.find(' ');
    return fail({std::stoi(text.substr(0, space)), text.substr(space + 1)});
  }
  if (rank_ != 0 && has_ended(0)) {
    host_left_ = true;
    note_left(0);
    store_->set(heard_key(rank_), "1");
    return;
  }
  // A store that is slow to answer, or a process that is, says nothing about the peers.
  const auto now = std::chrono::steady_clock::now();
  const auto passed = std::min<std::chrono::nanoseconds>(now - std::exchange(looked_, now), 2 * interval_);
  for (std::size_t rank = 0; rank < peers_.size(); ++rank) {
    Peer& peer = peers_[rank];
    if (peer.ended || static_cast<int>(rank) == rank_) continue;
    const std::int64_t beats = store_->add(beat_key(static_cast<int>(rank)), 0);
    if (beats != peer.beats) {
      peer.beats = beats;
      peer.silence = {};
    } else if ((peer.silence += passed) > timeout_) {
      peer.ended = has_ended(static_cast<int>(rank));
      if (peer.ended) note_left(static_cast<int>(rank));
      if (peer.ended) continue;
      return fail({static_cast<int>(rank), "its process gives no sign of life any more"});
    }
  }
}

void Heartbeat::note_left(int rank) {
  const std::lock_guard lock(mutex_);
  left_[rank] = 1;
}

void Heartbeat::fail(Failure failure) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = failure;
  }
  try {
    if (!host_left_) store_->set(heard_key(rank_), "1");
  } catch (const std::exception&) {
    // The store is gone: so is the rank that would have waited for this.
  }
  on_failure_(failure);
}

}  // namespace counterflow::runtime
