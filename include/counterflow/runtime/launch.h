// Finds out from the environment which rank this process is, and meets the other ranks at a store.
//
// Understands what torchrun, Open MPI's mpirun and Slurm's srun set. Whoever starts ranks by hand sets RANK,
// WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as for torch.distributed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace counterflow::runtime {

struct Launch {
  std::string launcher;  ///< "torchrun", "Open MPI", "Slurm": for messages
  int rank = 0;
  int num_ranks = 1;
  int local_rank = 0;  ///< among the ranks of this host
  std::string host;    ///< of the store
  std::uint16_t port = 0;
  std::string prefix;  ///< of keys in the store: of the run and how often it was restarted
  bool hosts_store = false;
};

/// A variable's value, or nothing where it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// Throws InvalidConfig that names the variable at fault. An empty function reads the process's environment.
///
/// - torchrun: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT. With TORCHELASTIC_USE_AGENT_STORE
///   torchrun's agent hosts the store, otherwise rank 0 does.
/// - Open MPI: OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK; MASTER_ADDR where there are several hosts;
///   MASTER_PORT, or 29500.
/// - Slurm: SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID; MASTER_ADDR, or the first node of the step;
///   MASTER_PORT, or one made of the job's and the step's number.
Launch read_launch(const Environment& environment = {});

/// A new connection to the store of all ranks; waits for the rank that hosts it. Throws TransportError.
c10::intrusive_ptr<c10d::Store> open_store(const Launch& launch,
                                           std::chrono::milliseconds timeout = std::chrono::minutes(5));

}  // namespace counterflow::runtime
