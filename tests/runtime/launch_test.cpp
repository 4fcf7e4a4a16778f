#include "counterflow/runtime/launch.h"

#include <gtest/gtest.h>

#include <map>

#include "counterflow/error.h"
#include "counterflow/runtime/error.h"

namespace counterflow::runtime {
namespace {

using Variables = std::map<std::string, std::string>;

Launch read(const Variables& variables) {
  return read_launch([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

std::string complaint(const Variables& variables) {
  try {
    read(variables);
  } catch (const InvalidConfig& error) {
    return error.what();
  }
  return "none";
}

const Variables kTorchrun{{"RANK", "3"},
                          {"WORLD_SIZE", "8"},
                          {"LOCAL_RANK", "1"},
                          {"MASTER_ADDR", "node7"},
                          {"MASTER_PORT", "29511"},
                          {"TORCHELASTIC_RUN_ID", "abc"},
                          {"TORCHELASTIC_RESTART_COUNT", "2"}};

Variables with(Variables variables, const Variables& changes) {
  for (const auto& [name, value] : changes) variables[name] = value;
  return variables;
}

Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

TEST(LaunchTest, ReadsTorchrun) {
  const Launch launch = read(kTorchrun);
  EXPECT_EQ(launch.launcher, "torchrun");
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.num_ranks, 8);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.host, "node7");
  EXPECT_EQ(launch.port, 29511);
  EXPECT_EQ(launch.prefix, "abc/2");
  EXPECT_FALSE(launch.hosts_store);
}

TEST(LaunchTest, RankZeroHostsTheStoreUnlessTheAgentDoes) {
  EXPECT_TRUE(read(with(kTorchrun, {{"RANK", "0"}})).hosts_store);
  const Variables agent{{"RANK", "0"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
  EXPECT_FALSE(read(with(kTorchrun, agent)).hosts_store);
}

TEST(LaunchTest, ReadsOpenMpi) {
  const Variables one_host{{"OMPI_COMM_WORLD_RANK", "0"},
                           {"OMPI_COMM_WORLD_SIZE", "2"},
                           {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                           {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                           {"PMIX_NAMESPACE", "77"}};
  const Launch launch = read(one_host);
  EXPECT_EQ(launch.launcher, "Open MPI");
  EXPECT_EQ(launch.host, "127.0.0.1");
  EXPECT_EQ(launch.port, 29500);
  EXPECT_EQ(launch.prefix, "77");
  EXPECT_TRUE(launch.hosts_store);

  const Variables two_hosts = with(one_host, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}});
  EXPECT_NE(complaint(two_hosts).find("MASTER_ADDR is not set"), std::string::npos) << complaint(two_hosts);
  EXPECT_EQ(read(with(two_hosts, {{"MASTER_ADDR", "first"}})).host, "first");
}

TEST(LaunchTest, ReadsSlurm) {
  const Variables slurm{{"SLURM_PROCID", "5"},  {"SLURM_NTASKS", "16"},
                        {"SLURM_LOCALID", "1"}, {"SLURM_JOB_ID", "1234567"},
                        {"SLURM_STEP_ID", "2"}, {"SLURM_STEP_NODELIST", "gpu[003-010,12],login"}};
  const Launch launch = read(slurm);
  EXPECT_EQ(launch.launcher, "Slurm");
  EXPECT_EQ(launch.rank, 5);
  EXPECT_EQ(launch.num_ranks, 16);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.host, "gpu003");
  EXPECT_EQ(launch.prefix, "1234567.2/0");
  EXPECT_NE(launch.port, read(with(slurm, {{"SLURM_STEP_ID", "3"}})).port);
  EXPECT_EQ(read(with(slurm, {{"MASTER_PORT", "4000"}})).port, 4000);
  const auto host_of = [&](const char* nodes) {
    return read(with(slurm, {{"SLURM_STEP_NODELIST", nodes}})).host;
  };
  EXPECT_EQ(host_of("node7"), "node7");
  EXPECT_EQ(host_of("a,b"), "a");
  EXPECT_EQ(host_of("rack[1-2]node[4,6-8]-ib"), "rack1node4-ib");
  EXPECT_NE(complaint(with(slurm, {{"SLURM_STEP_NODELIST", "a[1-"}})).find("not closed"), std::string::npos);
}

TEST(LaunchTest, LaunchersInsideSlurmComeFirst) {
  EXPECT_EQ(read(with(kTorchrun, {{"SLURM_PROCID", "0"}})).launcher, "torchrun");
}

TEST(LaunchTest, ComplaintsNameTheVariable) {
  EXPECT_NE(complaint({}).find("torchrun, mpirun or srun"), std::string::npos);
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) {
    const std::string text = complaint(without(kTorchrun, name));
    EXPECT_EQ(text.rfind(std::string(name) + " is not set", 0), 0U) << text;
  }
  EXPECT_EQ(complaint(with(kTorchrun, {{"RANK", "8"}})),
            "RANK is \"8\"; expected a number from 0 to 7 (torchrun)");
  EXPECT_NE(complaint(with(kTorchrun, {{"RANK", "one"}})).find("\"one\""), std::string::npos);
  EXPECT_NE(complaint(with(kTorchrun, {{"WORLD_SIZE", "0"}})).find("from 1"), std::string::npos);
  EXPECT_NE(complaint(with(kTorchrun, {{"MASTER_PORT", "70000"}})).find("65535"), std::string::npos);
  EXPECT_NE(complaint(with(kTorchrun, {{"MASTER_PORT", "29500x"}})).find("29500x"), std::string::npos);
}

TEST(LaunchTest, ConnectionsMeetAtTheStoreOfTheirRun) {
  Launch host =
      read(with(kTorchrun, {{"RANK", "0"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "38731"}}));
  const auto first = open_store(host);
  const auto again = open_store(host);
  Launch other = host;
  other.hosts_store = false;
  other.prefix = "abc/3";
  const auto restarted = open_store(other);
  first->set("key", "value");
  EXPECT_TRUE(again->check({"key"}));
  EXPECT_FALSE(restarted->check({"key"}));
}

TEST(LaunchTest, SaysWhereNoStoreIs) {
  Launch launch = read(with(kTorchrun, {{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "1"}}));
  try {
    open_store(launch, std::chrono::milliseconds(300));
    FAIL() << "something answers at port 1";
  } catch (const TransportError& error) {
    EXPECT_NE(std::string(error.what()).find("rank 3 of 8 (torchrun) found no store at 127.0.0.1:1"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace counterflow::runtime
