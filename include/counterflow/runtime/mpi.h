// A process for each rank, started by mpirun, and the transport between them.
//
//   int main() {
//     try {
//       run_mpi([](Transport& transport) { Pipeline pipeline(..., transport, ...); ... });
//     } catch (const std::exception& error) {
//       std::cerr << "error: " << error.what() << "\n";
//       return 1;
//     }
//   }
//
// Tensors travel between CPUs. In the library counterflow::mpi, which needs Open MPI or another MPI 3.
#pragma once

#include <functional>

#include "counterflow/runtime/transport.h"

namespace counterflow::runtime {

/// Runs `body` with this process's end of a transport between all processes of the MPI job. Starts MPI where
/// the program has not, for the whole life of the process. Collective, and may be called again once it has
/// returned.
///
/// Returns when all ranks are through. An exception on one rank ends the others' waits with PeerFailed; all
/// ranks then wait up to 5 s for one another, so that each can report its error before mpirun ends those that
/// are left. Let the process exit non-zero then, without another call of MPI.
///
/// A rank whose process dies is noticed at once by those on the same host. mpirun sends SIGTERM to those that
/// are left: while run_mpi() runs, the signal ends this rank's wait with TransportError, and a second one the
/// process. Autograd runs on this thread, as in run_local().
void run_mpi(const std::function<void(Transport&)>& body);

}  // namespace counterflow::runtime
