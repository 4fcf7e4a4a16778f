#include "fake_nccl.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "fake_device.h"
#include "fake_graph.h"
#include "misuse.h"
#include "shared_memory.h"

namespace {

constexpr int kMaxRanks = 8;
constexpr int kMaxCommunicators = 64;
constexpr std::size_t kMaxBytes = 1024;

/// A message on its way from one rank of a communicator to another.
struct Mailbox {
  std::atomic<bool> full;
  std::size_t bytes;
  std::array<char, kMaxBytes> data;
};

/// What the ranks of a communicator share.
struct Shared {
  std::atomic<int> joined;
  std::atomic<int> leaving;
  std::array<std::array<std::atomic<bool>, kMaxRanks>, kMaxRanks> connects[2];  ///< by rank, then peer
  std::array<std::array<Mailbox, kMaxRanks>, kMaxRanks> mail;                   ///< by sender, then receiver
};

/// What all processes share.
struct World {
  std::atomic<int> next;
  std::array<Shared, kMaxCommunicators> communicators;
};

World* g_world = nullptr;
counterflow::fake::Faults g_faults;
std::mutex g_mutex;
counterflow::fake::Tally g_tally;

void count(int counterflow::fake::Tally::*what) {
  const std::lock_guard lock(g_mutex);
  ++(g_tally.*what);
}

}  // namespace

/// One rank's end. Stays when it is gone, so that its use can be noticed.
struct ncclComm {
  enum class State { kAlive, kAborted, kDestroyed };

  Shared& shared;
  const int number;
  const int rank;
  const int num_ranks;
  std::atomic<State> state = State::kAlive;
  std::atomic<int> under_way = 0;
  std::atomic<int> graphs = 0;  ///< that hold transfers of it
  std::array<bool, kMaxRanks> connected[2]{};
};

namespace {

using State = ncclComm::State;

bool check_alive(ncclComm_t comm, const char* call) {
  const State state = comm->state;
  if (state == State::kAlive) return true;
  counterflow::fake::note_misuse(std::string(call) + " of communicator " + std::to_string(comm->number) +
                                 ", which was " + (state == State::kAborted ? "aborted" : "destroyed"));
  return false;
}

/// Counts up for as long as it or a copy of it lives.
class Counted {
 public:
  explicit Counted(std::atomic<int>& count) : count_(&count) { ++*count_; }
  Counted(const Counted& other) : Counted(*other.count_) {}
  ~Counted() { --*count_; }
  Counted& operator=(const Counted&) = delete;

 private:
  std::atomic<int>* count_;
};

/// Both ends of a communicator wait for graphs that use it, without limit (NCCL's commDestroySync() in
/// init.cc).
bool wait_for_graphs(ncclComm_t comm, const char* call) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  bool in_time = true;
  counterflow::fake::poll([&] {
    in_time = std::chrono::steady_clock::now() < give_up;
    return comm->graphs == 0 || !in_time;
  });
  if (!in_time)
    counterflow::fake::note_misuse(std::string(call) + " of communicator " + std::to_string(comm->number) +
                                   " has waited 5 s for a graph that uses it");
  return in_time;
}

bool is_held_up() {
  return g_faults.transfers_stall || g_faults.asynchronous != ncclSuccess;
}

/// One end of a message.
struct Transfer {
  ncclComm_t comm;
  int peer;
  bool sends;
  char* memory;
  std::size_t bytes;
  cudaStream_t stream;
  bool collective;         ///< part of a broadcast, which has connections of its own
  bool delivered = false;  ///< a send's: its message lies in the mailbox
  bool done = false;

  /// Gets as far as it can.
  void advance() {
    if (done) return;
    if (comm->state != State::kAlive)
      done = true;
    else if (!is_held_up())
      sends ? send() : receive();
  }

 private:
  void send() {
    Mailbox& mail = comm->shared.mail[comm->rank][peer];
    if (!delivered && !mail.full) {
      std::memcpy(mail.data.data(), memory, bytes);
      mail.bytes = bytes;
      mail.full = delivered = true;
    }
    done = delivered && !mail.full;
  }

  void receive() {
    Mailbox& mail = comm->shared.mail[peer][comm->rank];
    if (!mail.full) return;
    if (mail.bytes != bytes)
      counterflow::fake::note_misuse("communicator " + std::to_string(comm->number) + ": " +
                                     std::to_string(mail.bytes) + " bytes were sent, " +
                                     std::to_string(bytes) + " were to be received");
    std::memcpy(memory, mail.data.data(), std::min(bytes, mail.bytes));
    mail.full = false;
    done = true;
  }
};

/// The calls between ncclGroupStart and ncclGroupEnd of a thread.
thread_local int t_depth = 0;
thread_local bool t_collective = false;
thread_local std::vector<Transfer> t_group;

/// Waits for the other side's first message. False where the communicator was aborted meanwhile.
bool connect(const Transfer& transfer) {
  ncclComm& comm = *transfer.comm;
  bool& connected = comm.connected[transfer.collective][transfer.peer];
  if (connected) return true;
  counterflow::fake::poll([&] {
    return comm.shared.connects[transfer.collective][transfer.peer][comm.rank] || comm.state != State::kAlive;
  });
  if (comm.state != State::kAlive) return false;
  connected = true;
  count(&counterflow::fake::Tally::connected);
  return true;
}

/// A kernel: its transfers get ahead side by side, and it ends when all have.
ncclResult_t launch(cudaStream_t stream, std::vector<Transfer> transfers) {
  std::vector<const void*> memory;
  std::vector<Counted> under_way;
  for (const Transfer& transfer : transfers) {
    memory.push_back(transfer.memory);
    under_way.emplace_back(transfer.comm->under_way);
    if (const auto& capture = stream->point.capture; capture && capture->graph())
      capture->graph()->keep(std::make_shared<Counted>(transfer.comm->graphs));
  }
  const auto kernel = [all = std::move(transfers), under_way]() mutable {
    bool done = true;
    for (Transfer& transfer : all) {
      transfer.advance();
      done &= transfer.done;
    }
    return done;
  };
  return counterflow::fake::enqueue(stream, kernel, memory) == cudaSuccess ? ncclSuccess
                                                                           : ncclUnhandledCudaError;
}

ncclResult_t launch_group(std::vector<Transfer> group) {
  for (const Transfer& transfer : group)
    transfer.comm->shared.connects[transfer.collective][transfer.comm->rank][transfer.peer] = true;
  for (const Transfer& transfer : group) {
    if (!connect(transfer)) return ncclInternalError;
    if (g_faults.calls_hang) {
      counterflow::fake::poll([&] { return transfer.comm->state != State::kAlive; });
      return ncclInternalError;
    }
  }
  while (!group.empty()) {
    const cudaStream_t stream = group.front().stream;
    std::vector<Transfer> kernel;
    std::erase_if(group, [&](const Transfer& transfer) {
      if (transfer.stream == stream) kernel.push_back(transfer);
      return transfer.stream == stream;
    });
    if (const ncclResult_t result = launch(stream, std::move(kernel)); result != ncclSuccess) return result;
  }
  return ncclSuccess;
}

ncclResult_t add(const Transfer& transfer, const char* call) {
  if (!check_alive(transfer.comm, call)) return ncclInvalidUsage;
  if (transfer.bytes > kMaxBytes || transfer.peer < 0 || transfer.peer >= transfer.comm->num_ranks)
    return ncclInvalidArgument;
  if (g_faults.transfer_result != ncclSuccess) return g_faults.transfer_result;
  if (t_depth > 0) {
    t_group.push_back(transfer);
    return ncclSuccess;
  }
  return launch_group({transfer});
}

}  // namespace

namespace counterflow::fake {

void start_nccl() {
  g_world = share<World>();
}

Faults& faults() {
  return g_faults;
}

Tally tally() {
  const std::lock_guard lock(g_mutex);
  std::snprintf(g_tally.misuse, sizeof g_tally.misuse, "%s", misuse().c_str());
  return g_tally;
}

}  // namespace counterflow::fake

using counterflow::fake::poll;
using counterflow::fake::Tally;

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const int number = g_world->next++;
  if (number >= kMaxCommunicators) return ncclInternalError;
  std::memcpy(id->internal, &number, sizeof number);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t*) {
  int number = 0;
  std::memcpy(&number, id.internal, sizeof number);
  if (num_ranks > kMaxRanks) return ncclInvalidArgument;
  poll([] { return !g_faults.init_hangs; });
  if (g_faults.init_result != ncclSuccess) return g_faults.init_result;
  Shared& shared = g_world->communicators[number];
  ++shared.joined;
  poll([&] { return shared.joined == num_ranks; });
  *comm = new ncclComm{shared, number, rank, num_ranks};
  count(&Tally::made);
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* result) {
  if (!check_alive(comm, "ncclCommGetAsyncError")) return ncclInvalidUsage;
  *result = g_faults.asynchronous;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (!check_alive(comm, "ncclCommAbort")) return ncclInvalidUsage;
  comm->state = State::kAborted;
  ++comm->shared.leaving;
  count(&Tally::aborted);
  wait_for_graphs(comm, "ncclCommAbort");
  counterflow::fake::synchronize_device();
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (!check_alive(comm, "ncclCommDestroy")) return ncclInvalidUsage;
  if (!wait_for_graphs(comm, "ncclCommDestroy")) return ncclInternalError;
  poll([comm] { return comm->under_way == 0; });
  ++comm->shared.leaving;
  poll([comm] { return comm->shared.leaving == comm->num_ranks; });
  comm->state = State::kDestroyed;
  count(&Tally::destroyed);
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++t_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (t_depth == 0) {
    counterflow::fake::note_misuse("ncclGroupEnd without ncclGroupStart");
    return ncclInvalidUsage;
  }
  if (--t_depth > 0) return ncclSuccess;
  return launch_group(std::exchange(t_group, {}));
}

ncclResult_t ncclSend(const void* memory, std::size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add({comm, peer, true, static_cast<char*>(const_cast<void*>(memory)), count, stream, t_collective},
             "ncclSend");
}

ncclResult_t ncclRecv(void* memory, std::size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add({comm, peer, false, static_cast<char*>(memory), count, stream, t_collective}, "ncclRecv");
}

/// From the root to each.
ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t bytes, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  ncclGroupStart();
  t_collective = true;
  if (comm->rank != root) ncclRecv(to, bytes, type, root, comm, stream);
  for (int peer = 0; comm->rank == root && peer < comm->num_ranks; ++peer)
    if (peer != root) ncclSend(from, bytes, type, peer, comm, stream);
  t_collective = false;
  return ncclGroupEnd();
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "internal error";
  }
}

const char* ncclGetLastError(ncclComm_t) {
  return "";
}

}  // extern "C"
