// NCCL between processes of one machine, behind NCCL's own functions: what goes wrong there can be asked for.
//
// As NCCL does, a send is a rendezvous with its receive; the first message between two ranks of a
// communicator connects them, for which the host waits; to make and to destroy a communicator waits for its
// other ranks, without limit; to abort one ends its transfers and what waits in its calls, and waits for all
// that the device was asked for; both wait for the graphs that use it to go; nobody is told that a peer's
// process has ended.
#pragma once

#include <nccl.h>

#include <atomic>
#include <cstddef>

namespace counterflow::fake {

/// Of all processes that are forked from now on: they share communicators.
void start_nccl();

/// What goes wrong in this process. All may be set at any time.
struct Faults {
  std::atomic<bool> init_hangs = false;                     ///< ncclCommInitRankConfig, for good
  std::atomic<ncclResult_t> init_result = ncclSuccess;      ///< of the same
  std::atomic<ncclResult_t> transfer_result = ncclSuccess;  ///< ncclSend, ncclRecv
  std::atomic<bool> calls_hang = false;                     ///< ncclGroupEnd, until an abort
  std::atomic<bool> transfers_stall = false;                ///< until an abort
  std::atomic<ncclResult_t> asynchronous = ncclSuccess;     ///< of all communicators, whose transfers stall
  std::atomic<bool> one_process = false;  ///< memory goes back to the device only when all ranks' are idle
  std::atomic<int> frees_take_ms = 0;     ///< before they wait for that
};
Faults& faults();

/// What this process has done so far.
struct Tally {
  int made = 0;
  int connected = 0;  ///< pairs, each by communicator
  int destroyed = 0;
  int aborted = 0;
  char misuse[256] = "";  ///< the first (misuse.h)
};
Tally tally();

}  // namespace counterflow::fake
