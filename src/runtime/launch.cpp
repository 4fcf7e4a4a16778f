#include "counterflow/runtime/launch.h"

#include <charconv>
#include <cstdlib>
#include <exception>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "counterflow/error.h"
#include "counterflow/runtime/error.h"

namespace counterflow::runtime {
namespace {

constexpr int kDefaultPort = 29500;  // torch.distributed's

/// Reads a launcher's variables, and says in every complaint who should have set them.
class Variables {
 public:
  Variables(const Environment& environment, std::string launcher)
      : environment_(environment), launcher_(std::move(launcher)) {}

  std::optional<std::string> find(const std::string& name) const {
    std::optional<std::string> value = environment_(name);
    return value && value->empty() ? std::nullopt : value;
  }

  std::string text(const std::string& name) const {
    if (std::optional<std::string> value = find(name)) return *value;
    throw InvalidConfig(name + " is not set, though other variables of " + launcher_ + " are");
  }

  int number(const std::string& name, int least, int most) const {
    const std::string value = text(name);
    int number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < least || number > most) {
      throw InvalidConfig(name + " is \"" + value + "\"; expected a number from " + std::to_string(least) +
                          " to " + std::to_string(most) + " (" + launcher_ + ")");
    }
    return number;
  }

  int number(const std::string& name, int least, int most, int otherwise) const {
    return find(name) ? number(name, least, most) : otherwise;
  }

 private:
  const Environment& environment_;
  const std::string launcher_;
};

constexpr int kMany = 1 << 24;

void read_ranks(const Variables& variables, const std::string& rank, const std::string& size,
                const std::string& local_rank, Launch& launch) {
  launch.num_ranks = variables.number(size, 1, kMany);
  launch.rank = variables.number(rank, 0, launch.num_ranks - 1);
  launch.local_rank = variables.number(local_rank, 0, kMany, launch.num_ranks == 1 ? 0 : -1);
  if (launch.local_rank < 0) variables.text(local_rank);
}

Launch from_torchrun(const Environment& environment) {
  const Variables variables(environment, "torchrun");
  Launch launch;
  launch.launcher = "torchrun";
  read_ranks(variables, "RANK", "WORLD_SIZE", "LOCAL_RANK", launch);
  launch.host = variables.text("MASTER_ADDR");
  launch.port = static_cast<std::uint16_t>(variables.number("MASTER_PORT", 1, 65535));
  launch.prefix = variables.find("TORCHELASTIC_RUN_ID").value_or("run") + "/" +
                  std::to_string(variables.number("TORCHELASTIC_RESTART_COUNT", 0, kMany, 0));
  const std::string agent = variables.find("TORCHELASTIC_USE_AGENT_STORE").value_or("False");
  launch.hosts_store = launch.rank == 0 && agent != "True" && agent != "true" && agent != "1";
  return launch;
}

Launch from_open_mpi(const Environment& environment) {
  const Variables variables(environment, "Open MPI");
  Launch launch;
  launch.launcher = "Open MPI";
  const std::string world = "OMPI_COMM_WORLD_";
  read_ranks(variables, world + "RANK", world + "SIZE", world + "LOCAL_RANK", launch);
  const bool one_host = variables.number(world + "LOCAL_SIZE", 1, kMany, 1) == launch.num_ranks;
  const std::optional<std::string> host = variables.find("MASTER_ADDR");
  if (!host && !one_host)
    throw InvalidConfig(
        "MASTER_ADDR is not set: with ranks on several hosts, Open MPI does not say where rank 0 is "
        "(mpirun -x MASTER_ADDR=host)");
  launch.host = host.value_or("127.0.0.1");
  launch.port = static_cast<std::uint16_t>(variables.number("MASTER_PORT", 1, 65535, kDefaultPort));
  launch.prefix =
      variables.find("PMIX_NAMESPACE").value_or(variables.find("OMPI_MCA_ess_base_jobid").value_or("run"));
  launch.hosts_store = launch.rank == 0;
  return launch;
}

/// The first of "node7", "node[003-010,12],login1", "rack[1-2]node[1-4]-ib".
std::string first_host(const std::string& nodes) {
  std::string host;
  for (std::size_t at = 0; at < nodes.size() && nodes[at] != ','; ++at) {
    if (nodes[at] != '[') {
      host += nodes[at];
      continue;
    }
    const std::size_t close = nodes.find(']', at);
    if (close == std::string::npos) throw InvalidConfig("a list of hosts is not closed: \"" + nodes + "\"");
    host += nodes.substr(at + 1, nodes.find_first_of(",-]", at) - at - 1);
    at = close;
  }
  return host;
}

Launch from_slurm(const Environment& environment) {
  const Variables variables(environment, "Slurm");
  Launch launch;
  launch.launcher = "Slurm";
  const bool has_step = variables.find("SLURM_STEP_NUM_TASKS").has_value();
  read_ranks(variables, "SLURM_PROCID", has_step ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS", "SLURM_LOCALID",
             launch);
  const int most = 0x7fffffff;
  const int job = variables.number("SLURM_JOB_ID", 0, most);
  const int step = variables.number("SLURM_STEP_ID", 0, most, 0);
  std::optional<std::string> host = variables.find("MASTER_ADDR");
  if (!host)
    host = first_host(variables.find("SLURM_STEP_NODELIST") ? variables.text("SLURM_STEP_NODELIST")
                                                            : variables.text("SLURM_JOB_NODELIST"));
  launch.host = *host;
  const int port = 20000 + static_cast<int>((job * std::int64_t{31} + step) % 10000);
  launch.port = static_cast<std::uint16_t>(variables.number("MASTER_PORT", 1, 65535, port));
  launch.prefix = std::to_string(job) + "." + std::to_string(step) + "/" +
                  std::to_string(variables.number("SLURM_RESTART_COUNT", 0, kMany, 0));
  launch.hosts_store = launch.rank == 0;
  return launch;
}

std::optional<std::string> of_process(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value ? std::optional<std::string>(value) : std::nullopt;
}

}  // namespace

Launch read_launch(const Environment& environment) {
  const Environment& from = environment ? environment : of_process;
  // Under srun, torchrun and mpirun set theirs beside Slurm's.
  if (from("RANK") || from("WORLD_SIZE")) return from_torchrun(from);
  if (from("OMPI_COMM_WORLD_RANK")) return from_open_mpi(from);
  if (from("SLURM_PROCID")) return from_slurm(from);
  throw InvalidConfig(
      "no launcher's variables are set: start the ranks with torchrun, mpirun or srun, or set RANK, "
      "WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT for each");
}

c10::intrusive_ptr<c10d::Store> open_store(const Launch& launch, std::chrono::milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = launch.port;
  options.isServer = launch.hosts_store;
  options.waitWorkers = false;
  options.timeout = timeout;
  options.multiTenant = true;  // a second connection from the process that hosts it
  try {
    return c10::make_intrusive<c10d::PrefixStore>("counterflow/" + launch.prefix,
                                                  c10::make_intrusive<c10d::TCPStore>(launch.host, options));
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw TransportError(
        "rank " + std::to_string(launch.rank) + " of " + std::to_string(launch.num_ranks) + " (" +
        launch.launcher + ") found no store at " + launch.host + ":" + std::to_string(launch.port) +
        (launch.hosts_store ? ", which it was to host: " : ": ") + text.substr(0, text.find('\n')));
  }
}

}  // namespace counterflow::runtime
