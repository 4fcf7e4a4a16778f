#include "mpi_link.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <utility>

#include "counterflow/runtime/error.h"
#include "counterflow/runtime/log.h"

namespace counterflow::runtime {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 30;  // MPI counts in int
constexpr std::size_t kControlLimit = 3000;           // sent at once, whether it is received or not

/// How long a rank is listened to after it went: what it sent before may still be on its way.
constexpr std::chrono::milliseconds kGrace{200};

void check(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(status, text.data(), &length);
  throw TransportError(std::string(what) + ": " + std::string(text.data(), length));
}

int number_of(MpiLink::Tag tag) {
  return static_cast<int>(tag);
}

/// Between rounds of progress: turns at first, then sleeps, longer and longer. There may be more ranks than
/// cores, so that a rank which spins keeps the one that it waits for from running.
class Pause {
 public:
  template <class Sleep>
  void take(Sleep sleep) {
    if (++rounds_ < 50) return;
    sleep(time_);
    time_ = std::min(2 * time_, std::chrono::microseconds(500));
  }

 private:
  int rounds_ = 0;
  std::chrono::microseconds time_{10};
};

/// Receives that never ended, with their memory, which MPI may still write to.
std::vector<MpiLink::TransferPtr>& kept_for_good() {
  static auto& kept = *new std::vector<MpiLink::TransferPtr>();
  return kept;
}

}  // namespace

MpiLink::MpiLink(MPI_Comm parent) {
  check(MPI_Comm_dup(parent, &comm_), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &num_ranks_);
  left_.assign(num_ranks_, false);
  left_[rank_] = true;
  dead_.assign(num_ranks_, false);

  constexpr int kAddressSize = 128;
  std::string mine = process_address();
  mine.resize(kAddressSize);
  std::string all(static_cast<std::size_t>(kAddressSize) * num_ranks_, '\0');
  check(MPI_Allgather(mine.data(), kAddressSize, MPI_BYTE, all.data(), kAddressSize, MPI_BYTE, comm_),
        "MPI_Allgather");
  std::vector<std::string> addresses;
  for (int rank = 0; rank < num_ranks_; ++rank)
    addresses.emplace_back(&all[static_cast<std::size_t>(rank) * kAddressSize]);
  processes_.emplace(addresses);
}

MpiLink::~MpiLink() {
  say_left();
  // The communicator is not freed: one that is made later could otherwise get its messages.
  for (const TransferPtr& transfer : pending_) kept_for_good().push_back(transfer);
  for (const TransferPtr& transfer : control_) kept_for_good().push_back(transfer);
}

MpiLink::TransferPtr MpiLink::start_send(int to, Tag tag, const void* data, std::size_t size, Owner owner) {
  auto transfer = std::make_shared<Transfer>();
  transfer->peer = to;
  transfer->owner = std::move(owner);
  pending_.push_back(transfer);
  const char* next = static_cast<const char*>(data);
  do {  // an empty message is one, too
    const int piece = static_cast<int>(std::min(size, kPiece));
    transfer->requests.push_back(MPI_REQUEST_NULL);
    transfer->sizes.push_back(piece);
    check(MPI_Isend(next, piece, MPI_BYTE, to, number_of(tag), comm_, &transfer->requests.back()),
          "MPI_Isend");
    next += piece;
    size -= piece;
  } while (size > 0);
  return transfer;
}

MpiLink::TransferPtr MpiLink::send(int to, Tag tag, const void* data, std::size_t size, Owner owner) {
  const std::lock_guard lock(mutex_);
  return start_send(to, tag, data, size, std::move(owner));
}

MpiLink::TransferPtr MpiLink::send(int to, Tag tag, std::string bytes) {
  const auto kept = std::make_shared<const std::string>(std::move(bytes));
  return send(to, tag, kept->data(), kept->size(), kept);
}

MpiLink::TransferPtr MpiLink::receive(int from, Tag tag, void* data, std::size_t size, Owner owner) {
  const std::lock_guard lock(mutex_);
  auto transfer = std::make_shared<Transfer>();
  transfer->peer = from;
  transfer->is_receive = true;
  transfer->owner = std::move(owner);
  pending_.push_back(transfer);
  char* next = static_cast<char*>(data);
  do {  // an empty message is one, too
    const int piece = static_cast<int>(std::min(size, kPiece));
    transfer->requests.push_back(MPI_REQUEST_NULL);
    transfer->sizes.push_back(piece);
    check(MPI_Irecv(next, piece, MPI_BYTE, from, number_of(tag), comm_, &transfer->requests.back()),
          "MPI_Irecv");
    next += piece;
    size -= piece;
  } while (size > 0);
  return transfer;
}

MpiLink::TransferPtr MpiLink::take(int from, Tag tag, std::size_t limit) {
  const std::lock_guard lock(mutex_);
  int found = 0;
  MPI_Message message = MPI_MESSAGE_NULL;
  MPI_Status status;
  check(MPI_Improbe(from, number_of(tag), comm_, &found, &message, &status), "MPI_Improbe");
  if (found == 0) return nullptr;
  int size = 0;
  MPI_Get_count(&status, MPI_BYTE, &size);
  if (size < 0 || static_cast<std::size_t>(size) > limit)
    throw TransportError("rank " + std::to_string(from) + " sent " + std::to_string(size) +
                         " bytes where at most " + std::to_string(limit) + " were expected");
  auto transfer = std::make_shared<Transfer>();
  transfer->peer = from;
  transfer->is_receive = true;
  transfer->bytes.resize(size);
  transfer->requests.push_back(MPI_REQUEST_NULL);
  transfer->sizes.push_back(size);
  check(MPI_Imrecv(transfer->bytes.data(), size, MPI_BYTE, &message, &transfer->requests.back()),
        "MPI_Imrecv");
  pending_.push_back(transfer);
  return transfer;
}

void MpiLink::advance(Transfer& transfer) {
  while (!transfer.done()) {
    int done = 0;
    MPI_Status status;
    const int result = MPI_Test(&transfer.requests[transfer.num_done], &done, &status);
    const std::string peer = "rank " + std::to_string(transfer.peer);
    if (result == MPI_SUCCESS && done == 0) return;
    const int expected = transfer.sizes[transfer.num_done++];  // a failed one is over, too
    if (result != MPI_SUCCESS) check(result, ((transfer.is_receive ? "from " : "to ") + peer).c_str());
    if (!transfer.is_receive) continue;
    int size = 0;
    MPI_Get_count(&status, MPI_BYTE, &size);
    if (size != expected)
      throw TransportError(peer + " sent " + std::to_string(size) + " bytes where " +
                           std::to_string(expected) + " were expected");
  }
}

void MpiLink::advance() {
  for (auto transfer = pending_.begin(); transfer != pending_.end();) {
    advance(**transfer);
    transfer = (*transfer)->done() ? pending_.erase(transfer) : std::next(transfer);
  }
  hear();
}

void MpiLink::hear() {
  int found = 0;
  do {
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    check(MPI_Improbe(MPI_ANY_SOURCE, number_of(Tag::kControl), comm_, &found, &message, &status),
          "MPI_Improbe");
    if (found == 0) break;
    int size = 0;
    MPI_Get_count(&status, MPI_BYTE, &size);
    auto transfer = std::make_shared<Transfer>();
    transfer->peer = status.MPI_SOURCE;
    transfer->is_receive = true;
    transfer->bytes.resize(std::clamp<std::size_t>(size, 1, kControlLimit));
    transfer->requests.push_back(MPI_REQUEST_NULL);
    transfer->sizes.push_back(size);
    check(MPI_Imrecv(transfer->bytes.data(), static_cast<int>(transfer->bytes.size()), MPI_BYTE, &message,
                     &transfer->requests.back()),
          "MPI_Imrecv");
    control_.push_back(transfer);
  } while (true);
  for (auto transfer = control_.begin(); transfer != control_.end();) {
    advance(**transfer);
    if ((*transfer)->done()) {
      hear((*transfer)->peer, (*transfer)->bytes);
      transfer = control_.erase(transfer);
    } else {
      ++transfer;
    }
  }
}

// A control message is 'L' from a rank that leaves and 'A' from one that goes on failing, and after it the
// rank that failed first and why, where one has: "A2 out of luck".
void MpiLink::hear(int from, std::string_view text) {
  if (text.empty()) return;
  if (text.front() == 'L') left_[from] = true;
  text.remove_prefix(1);
  int rank = -1;
  const auto number = std::from_chars(text.data(), text.data() + text.size(), rank);
  if (number.ec != std::errc() || rank < 0 || rank >= num_ranks_ || failure_) return;
  text.remove_prefix(std::min<std::size_t>(text.size(), number.ptr - text.data() + 1));
  failure_ = Failure{rank, std::string(text)};
}

void MpiLink::tell_all(char kind) {
  std::string text(1, kind);
  if (failure_) text += std::to_string(failure_->rank) + " " + failure_->reason;
  if (text.size() > kControlLimit) text.resize(kControlLimit);
  const auto kept = std::make_shared<const std::string>(std::move(text));
  for (int rank = 0; rank < num_ranks_; ++rank)
    if (rank != rank_ && !dead_[rank]) start_send(rank, Tag::kControl, kept->data(), kept->size(), kept);
}

void MpiLink::look_for_dead_ranks() {
  for (const int rank : processes_->take_ended()) {
    advance();  // its last words
    if (!left_[rank]) log(LogLevel::kInfo, rank_, "the process of rank " + std::to_string(rank) + " is dead");
    if (!left_[rank] && !failure_) failure_ = Failure{rank, "its process is dead"};
    left_[rank] = true;
    dead_[rank] = true;
  }
}

void MpiLink::check_failure() {
  const std::lock_guard lock(mutex_);
  if (failure_) throw PeerFailed(failure_->rank, failure_->reason);
}

void MpiLink::check_termination() {
  if (!TerminationScope::requested()) return;
  const auto now = Clock::now();
  if (!told_to_end_) {
    told_to_end_ = now;
    log(LogLevel::kInfo, rank_, "SIGTERM");
  }
  // The rank that died may still come to light.
  if (now - *told_to_end_ > kGrace)
    throw TransportError("told to end (SIGTERM), as mpirun does when another rank has ended");
}

void MpiLink::progress() {
  {
    const std::lock_guard lock(mutex_);
    advance();
  }
  check_failure();
}

void MpiLink::wait(const std::function<int()>& missing) {
  const auto deadline = Clock::now() + timeout_;
  std::optional<Clock::time_point> left_at;
  Pause pause;
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      advance();
    }
    const int rank = missing();
    if (rank == kNobody) return;
    check_failure();
    check_termination();
    const auto now = Clock::now();
    if (left_[rank] && rank != rank_) {
      if (!left_at) left_at = now;
      if (now - *left_at > kGrace) throw PeerFailed(rank, "it went before it sent this");
    }
    if (now > deadline) throw TimeoutError("nothing came in time");
    pause.take([this](std::chrono::microseconds time) {
      processes_->sleep(time);
      const std::lock_guard lock(mutex_);
      look_for_dead_ranks();
    });
  }
}

void MpiLink::wait(const std::vector<TransferPtr>& transfers) {
  std::size_t done = 0;
  wait([&] {
    while (done < transfers.size() && transfers[done]->done()) ++done;
    return done == transfers.size() ? kNobody : transfers[done]->peer;
  });
}

void MpiLink::flush() {
  wait([this] {
    const std::lock_guard lock(mutex_);
    for (const TransferPtr& transfer : pending_)
      if (!transfer->is_receive) return transfer->peer;
    return kNobody;
  });
}

void MpiLink::abort(std::string_view reason) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = Failure{rank_, std::string(reason)};
    tell_all('A');
  } catch (...) {
    // MPI itself has failed: the others learn of it when this process ends.
  }
}

void MpiLink::say_left() noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (said_left_) return;
    said_left_ = true;
    tell_all('L');
  } catch (...) {
    // As in abort().
  }
}

bool MpiLink::all_have_left() const {
  return std::all_of(left_.begin(), left_.end(), [](char left) { return left; });
}

void MpiLink::leave(std::chrono::milliseconds limit) {
  say_left();
  std::optional<Clock::time_point> deadline;
  Pause pause;
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      advance();
      look_for_dead_ranks();
      if (all_have_left()) break;
      if (failure_ && !deadline) deadline = Clock::now() + limit;
    }
    if (deadline && Clock::now() > *deadline) break;
    check_termination();
    pause.take([this](std::chrono::microseconds time) { processes_->sleep(time); });
  }
  check_failure();
}

}  // namespace counterflow::runtime
