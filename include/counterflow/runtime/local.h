// Ranks as threads of one process, and the transport between them. Needs nothing installed.
//
// Messages are copied: ranks never share storage. Tensors may be on GPUs, and ranks may share a GPU: each
// rank's current device (torch's, of its thread) is where what it receives arrives.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "counterflow/runtime/transport.h"

namespace counterflow::runtime {

struct LocalOptions {
  /// Behaves as NCCL does, for tests: a message is copied only when its receive is posted, so that a send
  /// ends with its receive and what is sent must stay as it is until flush().
  bool rendezvous = false;
};

/// The ends of a transport between `num_ranks` threads of this process, one for each rank. An end that is
/// destroyed counts as a rank that has ended.
std::vector<std::unique_ptr<Transport>> make_local_transports(int num_ranks,
                                                              const LocalOptions& options = {});

/// Runs `body` on `num_ranks` threads at once, each with its end of a local transport, and waits for all of
/// them. An exception on one rank ends the others' waits; once all threads have ended, the exception of the
/// rank that failed first is thrown again.
///
/// On each of these threads autograd runs backward passes on the thread itself. Intra-op threads are left as
/// they are: at::set_num_threads(1) before is best where there are as many ranks as cores.
void run_local(int num_ranks, const std::function<void(Transport&)>& body, const LocalOptions& options = {});

}  // namespace counterflow::runtime
