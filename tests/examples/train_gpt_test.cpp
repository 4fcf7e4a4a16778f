#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>

#include "counterflow/cost_model.h"
#include "counterflow/generate.h"
#include "counterflow/recording.h"
#include "counterflow/simulate.h"
#include "runtime/temporary_folder.h"

namespace {

namespace fs = std::filesystem;

struct Result {
  int status = -1;
  std::string output;  ///< both streams

  bool says(const std::string& text) const { return output.find(text) != std::string::npos; }

  /// What the run's last line says of the loss on held-out text.
  double held_out_loss() const {
    const std::string before = "held-out loss ";
    return std::stod(output.substr(output.find(before) + before.size()));
  }
};

/// Sentences of a few words.
std::string made_up_text() {
  const std::string words[] = {"the ",   "rank ", "stage ",    "sends ",
                               "gives ", "a ",    "pipeline ", "micro-batch "};
  std::mt19937 random(1);
  std::string text;
  while (text.size() < 100000) {
    for (int word = 0; word < 12; ++word) text += words[random() % std::size(words)];
    text += std::to_string(random() % 1000) + ".\n\n";
  }
  return text;
}

class TrainGptTest : public testing::Test {
 protected:
  TrainGptTest() { std::ofstream(folder_ / "text") << made_up_text(); }

  Result run(const std::string& arguments, const std::string& launcher = "") const {
    const std::string line = std::string("cd '") + folder_.path() + "' && " + launcher +
                             " '" COUNTERFLOW_TRAIN_GPT "' text " + "--sample 20 " + arguments + " 2>&1";
    Result result;
    FILE* pipe = popen(line.c_str(), "r");
    char buffer[4096];
    while (const std::size_t count = fread(buffer, 1, sizeof buffer, pipe))
      result.output.append(buffer, count);
    const int status = pclose(pipe);
    if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
    return result;
  }

  std::string read(const std::string& name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const TemporaryFolder folder_;
  const std::string tiny_ = " --layers 8 --dim 16 --heads 2 --context 16 --batch 8 ";
};

TEST_F(TrainGptTest, TrainsAsAnUnpipelinedRunDoes) {
  for (const std::string schedule : {"dualpipe", "dualpipe --tied --dropout 0.2", "1f1b --tied",
                                     "zbv --dropout 0.1", "chimera --lr 0.1", "interleaved-1f1b --ranks 2"}) {
    const Result result = run(tiny_ + "--steps 4 --check-steps 4 --schedule " + schedule);
    EXPECT_EQ(result.status, 0) << schedule << "\n" << result.output;
    EXPECT_TRUE(result.says("the losses of the first 4 steps equal an unpipelined run's bit for bit"))
        << schedule << "\n"
        << result.output;
  }
}

#ifdef COUNTERFLOW_MPIRUN
TEST_F(TrainGptTest, TrainsInProcessesAsInThreads) {
  const std::string mpirun =
      "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 "
      "OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none "
      "OMP_NUM_THREADS=1 " COUNTERFLOW_MPIRUN;
  const std::string options = tiny_ + "--steps 4 --check-steps 4 --tied --dropout 0.2 ";
  const Result processes = run(options + "--transport mpi --checkpoint processes", mpirun + " 4");
  ASSERT_EQ(processes.status, 0) << processes.output;
  EXPECT_TRUE(processes.says("the losses of the first 4 steps equal an unpipelined run's bit for bit"))
      << processes.output;
  ASSERT_EQ(run(options + "--checkpoint threads").status, 0);
  for (const std::string stage : {"0", "1", "2", "3"}) {
    const std::string name = "/step-000000004/stage-0000" + stage + ".safetensors";
    EXPECT_FALSE(read("threads" + name).empty());
    EXPECT_TRUE(read("threads" + name) == read("processes" + name)) << name;
  }
  const Result too_few = run(options + "--transport mpi", mpirun + " 3");
  EXPECT_NE(too_few.status, 0);
  EXPECT_TRUE(too_few.says("is for 4 ranks; there are 3")) << too_few.output;
}
#endif

TEST_F(TrainGptTest, LearnsMoreThanPairs) {
  const Result result =
      run("--layers 4 --dim 32 --heads 2 --context 32 --steps 250 --lr 1e-2 --check-steps 1");
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_TRUE(result.says("below the text's bigram entropy")) << result.output;
  EXPECT_FALSE(result.says("not below")) << result.output;
}

TEST_F(TrainGptTest, RefusesOptionsAtOnce) {
  for (const auto& [arguments, message] : std::map<std::string, std::string>{
           {"--steps 0", "--steps: expected a number above 0, found 0"},
           {"--check-steps -1", "--check-steps: expected a number that is not negative, found -1"}}) {
    const Result result = run(arguments);
    EXPECT_EQ(result.status, 2) << arguments;
    EXPECT_TRUE(result.says(message)) << result.output;
  }
  const Result no_folder = run("--checkpoint text/folder");  // `text` is a file
  EXPECT_EQ(no_folder.status, 1);
  EXPECT_TRUE(no_folder.says("--checkpoint: the folder text/folder cannot be made")) << no_folder.output;
  EXPECT_FALSE(no_folder.says("step")) << no_folder.output;
}

TEST_F(TrainGptTest, ResumesBitForBit) {
  const Result whole = run(tiny_ + "--steps 6 --dropout 0.1 --checkpoint whole --checkpoint-every 3");
  ASSERT_EQ(whole.status, 0) << whole.output;
  const Result second = run("--resume whole/step-000000003 --checkpoint second");
  ASSERT_EQ(second.status, 0) << second.output;
  EXPECT_TRUE(second.says("bit for bit")) << second.output;
  EXPECT_EQ(second.held_out_loss(), whole.held_out_loss());
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "whole/step-000000006")) {
    const std::string name = "/step-000000006/" + entry.path().filename().string();
    EXPECT_TRUE(read("whole" + name) == read("second" + name)) << name;
    ++files;
  }
  EXPECT_EQ(files, 5);  // four stages and the index
}

TEST_F(TrainGptTest, ResumesOnOtherRanksAndSchedules) {
  const Result whole = run(tiny_ + "--steps 6 --tied --checkpoint whole --checkpoint-every 3");
  ASSERT_EQ(whole.status, 0) << whole.output;
  for (const std::string schedule : {"1f1b --ranks 2", "zbv", "dualpipe --ranks 2 --micro-batches 4"}) {
    const Result other = run("--resume whole/step-000000003 --check-steps 3 --schedule " + schedule);
    ASSERT_EQ(other.status, 0) << other.output;
    EXPECT_TRUE(other.says("the losses of the first 3 steps equal an unpipelined run's bit for bit"))
        << other.output;
    EXPECT_NEAR(other.held_out_loss(), whole.held_out_loss(), 0.0011) << schedule;  // 3 digits are shown
  }
}

TEST_F(TrainGptTest, PredictsItsStepFromProfiledCosts) {
  const Result first =
      run(tiny_ + "--steps 2 --schedule zbv --save-costs costs.json --save-timeline step.json");
  ASSERT_EQ(first.status, 0) << first.output;
  EXPECT_TRUE(first.says("step: predicted ")) << first.output;
  const auto schedule = counterflow::generate("zbv", {4, 8});
  const auto costs = counterflow::read_cost_file(folder_ / "costs.json");
  EXPECT_EQ(costs.stages.size(), 8U);
  const auto step = counterflow::read_recording(folder_ / "step.json");
  for (std::size_t rank = 0; rank < 4; ++rank)
    EXPECT_EQ(step.ranks.at(rank).bars.size(), schedule.actions[rank].size());
  const Result second =
      run(tiny_ + "--steps 1 --schedule zbv --costs costs.json --save-timeline /nowhere/step.json");
  EXPECT_NE(second.status, 0) << second.output;
  char expected[64];
  std::snprintf(expected, sizeof expected, "step: predicted %.1f ms",
                static_cast<double>(simulate(schedule, costs).makespan) / 1000);
  EXPECT_TRUE(second.says(expected)) << expected << "\n" << second.output;
}

TEST_F(TrainGptTest, RefusesWhatDoesNotFit) {
  ASSERT_EQ(run(tiny_ + "--steps 1 --checkpoint saved").status, 0);
  const struct {
    std::string arguments, message;
  } cases[] = {
      {"--schedule dualpip", "the nearest name is dualpipe"},
      {"--ranks 3", "dualpipe: expected ranks even"},
      {"--schedule ./nothing.csv", "nothing.csv"},
      {"--layers 3", "--layers 3 is too few"},
      {"--dim 63", "--dim 63 is no multiple of --heads 6"},
      {"--batch 7", "a batch of 7 does not make 8 micro-batches"},
      {"--resume .", "there is no checkpoint in ."},
      {"--resume nowhere", "nowhere"},
      {"--resume saved --dim 32", "--dim 32 is not the model in saved/step-000000001, whose dim is 16"},
      {"nothing.txt", "nothing.txt"},
      {"--transport pigeon", "pigeon"},
      {"--transport gpu", "train_gpt_gpu, built where CUDA and NCCL are, has them on GPUs"},
      {"--record", "--record: only steps on GPUs are recorded"},
      {"--share-gpus", "--share-gpus: goes with --transport gpu, nccl or copy; found --transport local"},
      {"--record --transport nccl --save-timeline step.json", "leave out --save-timeline"},
      {"--transport copy --save-costs costs.json", "--save-costs: costs are profiled on the CPU only"},
  };
  for (const auto& refused : cases) {
    const Result result = run(refused.arguments);
    EXPECT_GT(result.status, 0) << refused.arguments;
    EXPECT_TRUE(result.says(refused.message)) << refused.arguments << "\n" << result.output;
  }
}

}  // namespace
