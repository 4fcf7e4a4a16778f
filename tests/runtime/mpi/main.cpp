// Runs tests in every process of an MPI job at once. Rank 0 reports as usual, the others only what fails.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include <iostream>

#include "../world.h"
#include "counterflow/runtime/error.h"
#include "mpi_transport.h"

namespace counterflow::runtime {
namespace {

/// Ranks beyond `num_ranks` stand by.
void run(int num_ranks, const std::function<void(Transport&)>& body) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm some = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank < num_ranks ? 0 : MPI_UNDEFINED, rank, &some);
  if (some == MPI_COMM_NULL) return;
  bool returned = false;
  try {
    run_mpi_ranks(some, [&](Transport& transport) {
      body(transport);
      returned = true;
    });
  } catch (const PeerFailed&) {
    // An abort that the body meant, as in run_local().
    if (!returned) throw;
  }
}

class Failures : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& test) override { test_ = test.name(); }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed()) std::cerr << test_ << ": " << result.summary() << std::endl;
  }
  std::string test_;
};

}  // namespace

std::vector<World> worlds() {
  return {{"mpi", run, true}};
}

}  // namespace counterflow::runtime

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided);
  testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  int rank = 0;
  int num_ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &num_ranks);
  if (num_ranks < 4) {
    std::cerr << "error: run this with 4 ranks or more: mpirun -n 4\n";
    return 2;
  }
  if (rank != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new counterflow::runtime::Failures);
  }
  const int result = RUN_ALL_TESTS();
  MPI_Finalize();
  return result;
}
