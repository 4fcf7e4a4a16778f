#include "heartbeat.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

namespace counterflow::runtime {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kInterval(250);
constexpr const char* kAbortKey = "counterflow/abort";
constexpr const char* kNoAnswer = "the store that the ranks share does not answer any more";

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

/// What the thread works on. Nobody can free a thread that waits for the store.
class Heartbeat::Beats {
 public:
  Beats(c10::intrusive_ptr<c10d::Store> store, int rank, int num_ranks, std::chrono::milliseconds timeout,
        std::function<void(const Failure&)> on_failure)
      : store_(std::move(store)),
        rank_(rank),
        timeout_(timeout),
        on_failure_(std::move(on_failure)),
        interval_(std::min(kInterval, timeout / 8)),
        num_ranks_(num_ranks),
        next_((rank + 1) % num_ranks),
        left_(num_ranks) {}

  /// The thread.
  void run();

  /// Ends the thread, unless it is stuck: says which. `on_failure` is not called afterwards.
  bool stop();

  void abort(const std::string& reason);
  std::optional<Failure> failure() const;
  bool has_left(int rank) const;
  void watch(int rank);
  void check_store();

 private:
  struct Peer {
    std::int64_t beats = -1;
    std::chrono::nanoseconds silence{0};
    bool ended = false;
  };

  void tell(const Failure& failure);
  void beat();
  void look();
  void look_at_peers();
  bool look_at(int rank, std::chrono::nanoseconds passed);
  std::set<int> watched() const;
  void end();
  bool has_ended(int rank) const;
  bool is_stuck() const { return Clock::now() - answered_ > timeout_; }
  std::chrono::nanoseconds since(Clock::time_point& last) const;
  void note_left(int rank);
  void note_answer();
  void hear(const Failure& failure);
  void fail(const Failure& failure, bool is_stuck);

  // The thread's own.
  const c10::intrusive_ptr<c10d::Store> store_;
  const int rank_;
  const std::chrono::milliseconds timeout_;
  const std::function<void(const Failure&)> on_failure_;
  const std::chrono::milliseconds interval_;
  const int num_ranks_;
  std::map<int, Peer> peers_;
  int next_;  ///< that has not ended, as far as is known
  Clock::time_point looked_;
  bool host_left_ = false;
  bool store_failed_ = false;

  mutable std::mutex mutex_;  ///< of the following
  std::condition_variable changed_;
  std::optional<Failure> failure_;
  std::vector<char> left_;                     ///< by rank
  std::set<int> watched_;                      ///< beside the next rank
  std::optional<std::string> abort_reason_;    ///< of this rank
  Clock::time_point answered_ = Clock::now();  ///< when the store did, last
  Clock::time_point answered_then_;            ///< answered_, when check_store() was called last
  Clock::time_point checked_ = Clock::now();
  std::chrono::nanoseconds unanswered_{0};
  bool calling_ = false;  ///< on_failure_
  bool stopping_ = false;
  bool abandoned_ = false;
  bool finished_ = false;
};

void Heartbeat::Beats::run() {
  looked_ = Clock::now();
  std::unique_lock lock(mutex_);
  bool told = false;
  while (!stopping_ || (abort_reason_ && !told)) {
    const std::optional<std::string> reason = told ? std::nullopt : abort_reason_;
    lock.unlock();
    try {
      if (reason) {
        told = true;
        tell({rank_, *reason});
      }
      if (!host_left_ && !store_failed_) {
        beat();
        look();
      }
    } catch (const std::exception& error) {
      store_failed_ = true;
      hear({0, std::string(kNoAnswer) + ": " + error.what()});
    }
    lock.lock();
    answered_ = Clock::now();
    changed_.wait_for(lock, interval_, [&] { return stopping_ || (abort_reason_ && !told); });
  }
  lock.unlock();
  try {
    if (!host_left_ && !store_failed_) end();
  } catch (const std::exception&) {
    // The store is gone: so are the ranks that would have looked.
  }
  lock.lock();
  finished_ = true;
  changed_.notify_all();
}

bool Heartbeat::Beats::stop() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  while (!finished_ && (calling_ || !is_stuck())) changed_.wait_for(lock, interval_);
  abandoned_ = true;
  return finished_;
}

void Heartbeat::Beats::abort(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (!abort_reason_) abort_reason_ = reason;
  changed_.notify_all();
}

std::optional<Heartbeat::Failure> Heartbeat::Beats::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

bool Heartbeat::Beats::has_left(int rank) const {
  const std::lock_guard lock(mutex_);
  return left_.at(rank) != 0;
}

void Heartbeat::Beats::watch(int rank) {
  const std::lock_guard lock(mutex_);
  watched_.insert(rank);
}

std::set<int> Heartbeat::Beats::watched() const {
  const std::lock_guard lock(mutex_);
  return watched_;
}

void Heartbeat::Beats::check_store() {
  {
    const std::lock_guard lock(mutex_);
    const auto passed = since(checked_);
    if (std::exchange(answered_then_, answered_) != answered_) unanswered_ = {};
    unanswered_ += passed;
    if (calling_ || unanswered_ <= timeout_) return;
  }
  fail({0, kNoAnswer}, true);
}

/// A rank that has failed may be dead and is not waited for.
void Heartbeat::Beats::end() {
  const std::optional<Failure> failed = failure();
  if (!failed) store_->set(end_key(rank_), "1");
  if (rank_ != 0) return;
  const auto give_up = Clock::now() + timeout_;
  for (int rank = 1; rank < num_ranks_; ++rank) {
    if (failed && failed->rank == rank) continue;
    while (!has_ended(rank) && !store_->check({heard_key(rank)}) && Clock::now() < give_up) {
      note_answer();
      std::this_thread::sleep_for(interval_ / 4);
    }
  }
}

void Heartbeat::Beats::tell(const Failure& failure) {
  if (host_left_)
    hear(failure);
  else
    store_->compareSet(kAbortKey, "", std::to_string(failure.rank) + " " + failure.reason);
}

bool Heartbeat::Beats::has_ended(int rank) const {
  return store_->check({end_key(rank)});
}

void Heartbeat::Beats::beat() {
  store_->add(beat_key(rank_), 1);
}

void Heartbeat::Beats::look() {
  if (failure()) return;
  if (store_->check({kAbortKey})) {
    const auto bytes = store_->get(kAbortKey);
    const std::string text(bytes.begin(), bytes.end());
    const std::size_t space = text.find(' ');
    hear({std::stoi(text.substr(0, space)), text.substr(space + 1)});
  } else if (rank_ != 0 && has_ended(0)) {
    host_left_ = true;
    note_left(0);
    store_->set(heard_key(rank_), "1");
  } else {
    look_at_peers();
  }
}

void Heartbeat::Beats::look_at_peers() {
  const std::chrono::nanoseconds passed = since(looked_);
  while (next_ != rank_ && peers_[next_].ended) next_ = (next_ + 1) % num_ranks_;
  std::set<int> ranks = watched();
  ranks.insert(next_);
  ranks.erase(rank_);
  for (const int rank : ranks)
    if (!look_at(rank, passed)) return;
}

/// Returns false where that rank has failed, which all are told.
bool Heartbeat::Beats::look_at(int rank, std::chrono::nanoseconds passed) {
  Peer& peer = peers_[rank];
  if (peer.ended) return true;
  const std::int64_t beats = store_->add(beat_key(rank), 0);
  if (beats != peer.beats) {
    peer.beats = beats;
    peer.silence = {};
    return true;
  }
  if ((peer.silence += passed) <= timeout_) return true;
  peer.ended = has_ended(rank);
  if (peer.ended) {
    note_left(rank);
    return true;
  }
  const Failure failure{rank, "its process gives no sign of life any more"};
  tell(failure);
  hear(failure);
  return false;
}

/// The time since this was asked last, little if it is long: a store that is slow to answer, or this process
/// that was held up, says nothing about the peers.
std::chrono::nanoseconds Heartbeat::Beats::since(Clock::time_point& last) const {
  const Clock::time_point now = Clock::now();
  return std::min<std::chrono::nanoseconds>(now - std::exchange(last, now), 2 * interval_);
}

void Heartbeat::Beats::note_left(int rank) {
  const std::lock_guard lock(mutex_);
  left_[rank] = 1;
}

void Heartbeat::Beats::note_answer() {
  const std::lock_guard lock(mutex_);
  answered_ = Clock::now();
}

/// Of a failure, by the thread. Rank 0 wants to know.
void Heartbeat::Beats::hear(const Failure& failed) {
  if (failure()) return;
  try {
    if (!host_left_ && !store_failed_) store_->set(heard_key(rank_), "1");
  } catch (const std::exception&) {
    // The store is gone: so is the rank that would have waited for this.
  }
  fail(failed, false);
}

void Heartbeat::Beats::fail(const Failure& failure, bool is_stuck) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_ || abandoned_) return;
    failure_ = failure;
    calling_ = true;
  }
  on_failure_(failure);
  const std::lock_guard lock(mutex_);
  calling_ = false;
  if (!is_stuck) answered_ = Clock::now();
  changed_.notify_all();
}

Heartbeat::Heartbeat(c10::intrusive_ptr<c10d::Store> store, int rank, int num_ranks,
                     std::chrono::milliseconds timeout, std::function<void(const Failure&)> on_failure)
    : beats_(std::make_shared<Beats>(std::move(store), rank, num_ranks, timeout, std::move(on_failure))),
      thread_([beats = beats_] { beats->run(); }) {}

Heartbeat::~Heartbeat() {
  if (beats_->stop())
    thread_.join();
  else
    thread_.detach();
}

void Heartbeat::abort(const std::string& reason) noexcept {
  try {
    beats_->abort(reason);
  } catch (...) {
    // Out of memory: the others notice that the beat stops.
  }
}

std::optional<Heartbeat::Failure> Heartbeat::failure() const {
  return beats_->failure();
}

bool Heartbeat::has_left(int rank) const {
  return beats_->has_left(rank);
}

void Heartbeat::watch(int rank) {
  beats_->watch(rank);
}

void Heartbeat::check_store() {
  beats_->check_store();
}

}  // namespace counterflow::runtime
