#include "counterflow/runtime/mpi.h"

#include <c10/core/AutogradState.h>
#include <mpi.h>

#include <chrono>
#include <cstdlib>
#include <exception>

#include "counterflow/runtime/error.h"
#include "mpi_transport.h"
#include "process_watch.h"

namespace counterflow::runtime {
namespace {

/// Whether all went well so far: only then may MPI be ended, which waits for every rank.
bool all_is_well = true;

void end_mpi() {
  int ended = 0;
  MPI_Finalized(&ended);
  if (all_is_well && ended == 0) MPI_Finalize();
}

void start_mpi() {
  int started = 0;
  MPI_Initialized(&started);
  if (started != 0) return;
  // MpiLink sleeps where it waits. Where there are more ranks than cores Open MPI would give up the core
  // besides, in every look for messages: a send then takes as long as the other ranks' time slices.
  ::setenv("OMPI_MCA_mpi_yield_when_idle", "0", 0);
  int provided = 0;
  // Serialized, as abort() may come from any thread.
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS)
    throw TransportError("MPI does not start");
  if (std::atexit(end_mpi) != 0) throw TransportError("atexit fails");
}

class BackwardOnThisThread {
 public:
  BackwardOnThisThread() : before_(state().get_multithreading_enabled()) {
    state().set_multithreading_enabled(false);
  }
  ~BackwardOnThisThread() { state().set_multithreading_enabled(before_); }
  BackwardOnThisThread(const BackwardOnThisThread&) = delete;
  BackwardOnThisThread& operator=(const BackwardOnThisThread&) = delete;

 private:
  static c10::AutogradState& state() { return c10::AutogradState::get_tls_state(); }
  bool before_;
};

/// Waits a moment for the other ranks, so that mpirun, which ends them all once the first has exited, leaves
/// them the time to report.
void wait_for_others(MpiTransport& transport) noexcept {
  try {
    transport.leave(std::chrono::seconds(5));
  } catch (const std::exception&) {
    // What has failed is known already.
  }
}

}  // namespace

void run_mpi_ranks(MPI_Comm parent, const std::function<void(Transport&)>& body) {
  TerminationScope termination;
  const BackwardOnThisThread backward_on_this_thread;
  MpiTransport transport(parent);
  try {
    body(transport);
    transport.leave(std::chrono::seconds(5));
  } catch (const std::exception& error) {
    transport.abort(error.what());
    wait_for_others(transport);
    termination.keep();
    throw;
  } catch (...) {
    transport.abort("something was thrown that is no exception");
    wait_for_others(transport);
    termination.keep();
    throw;
  }
}

void run_mpi(const std::function<void(Transport&)>& body) {
  start_mpi();
  all_is_well = false;
  run_mpi_ranks(MPI_COMM_WORLD, body);
  all_is_well = true;
}

}  // namespace counterflow::runtime
