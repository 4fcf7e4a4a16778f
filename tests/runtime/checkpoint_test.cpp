#include "counterflow/runtime/checkpoint.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>
#include <thread>

#include "counterflow/error.h"
#include "counterflow/runtime/local.h"
#include "temporary_folder.h"

namespace counterflow::runtime {
namespace {

namespace fs = std::filesystem;

using State = std::map<std::string, std::string>;

/// What stage `stage` holds at a step: a matrix and a counter.
StageTensors stage_at(int stage, double step) {
  const std::string layer = "layer" + std::to_string(stage);
  return {stage,
          {{layer + ".weight", at::full({8, 4}, 100.0 * stage + step)},
           {layer + ".count", at::full({}, static_cast<int>(step), at::kLong)}}};
}

/// Saves as rank 0 of one, stages 0 and 1.
void save(const std::string& directory, int step, int keep = 2) {
  const auto transports = make_local_transports(1);
  save_checkpoint(*transports[0], directory, step, {stage_at(0, step), stage_at(1, step)},
                  {{"position", std::to_string(step)}}, keep);
}

/// The step of the newest checkpoint, if all that it holds is of that step.
std::int64_t whole_step(const std::string& directory) {
  const Checkpoint checkpoint(directory);
  EXPECT_EQ(checkpoint.state(), (State{{"position", std::to_string(checkpoint.step())}}));
  for (int stage = 0; stage < 2; ++stage) {
    StageTensors found = stage_at(stage, -1);
    checkpoint.load(found.tensors);
    const StageTensors expected = stage_at(stage, static_cast<double>(checkpoint.step()));
    for (std::size_t i = 0; i < found.tensors.size(); ++i)
      EXPECT_TRUE(at::equal(found.tensors[i].tensor, expected.tensors[i].tensor)) << found.tensors[i].name;
  }
  return checkpoint.step();
}

std::set<std::string> names_in(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename().string());
  return names;
}

TEST(CheckpointTest, HoldsOneFileAStageAndAnIndex) {
  const TemporaryFolder folder;
  save(folder.path(), 7);
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"latest", "step-000000007"}));
  EXPECT_EQ(names_in(folder / "step-000000007"),
            (std::set<std::string>{"model.safetensors.index.json", "stage-00000.safetensors",
                                   "stage-00001.safetensors"}));
  EXPECT_EQ(whole_step(folder.path()), 7);
  EXPECT_EQ(whole_step(folder / "step-000000007"), 7);
}

TEST(CheckpointTest, CopiesAreWrittenOnceByTheLowestRank) {
  const TemporaryFolder folder;
  // DualPipe's placement: rank r holds stages r and 3 - r.
  run_local(4, [&](Transport& transport) {
    const int low = std::min(transport.rank(), 3 - transport.rank());
    std::vector<StageTensors> stages{stage_at(low, 5), stage_at(3 - low, 5)};
    if (transport.rank() > 1)  // a copy that must not be the one in the file
      for (StageTensors& stage : stages) stage.tensors[0].tensor.fill_(-1);
    save_checkpoint(transport, folder.path(), 5, stages, {});
  });
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.files().size(), 8U);
  for (int stage = 0; stage < 4; ++stage) {
    StageTensors found = stage_at(stage, 0);
    checkpoint.load(found.tensors);
    EXPECT_TRUE(at::equal(found.tensors[0].tensor, stage_at(stage, 5).tensors[0].tensor)) << stage;
  }
}

TEST(CheckpointTest, KeepsAsManyAsAsked) {
  const TemporaryFolder folder;
  for (int step = 1; step <= 5; ++step) save(folder.path(), step, 2);
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"latest", "step-000000004", "step-000000005"}));
}

TEST(CheckpointTest, ARunThatWentBackIsTheNewest) {
  const TemporaryFolder folder;
  save(folder.path(), 20);
  save(folder.path(), 10);
  EXPECT_EQ(whole_step(folder.path()), 10);
}

TEST(CheckpointTest, ReplacesACheckpointOfTheSameStep) {
  const TemporaryFolder folder;
  save(folder.path(), 3);
  std::ofstream(folder / "step-000000003/stage-00001.safetensors") << "damaged";
  save(folder.path(), 3);
  EXPECT_EQ(whole_step(folder.path()), 3);
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"latest", "step-000000003"}));
}

TEST(CheckpointTest, IgnoresWhatWasNotFinished) {
  const TemporaryFolder folder;
  save(folder.path(), 3);
  fs::create_directory(folder / "step-000000004.partial");
  std::ofstream(folder / "step-000000004.partial/stage-00000.safetensors") << "half";
  EXPECT_EQ(whole_step(folder.path()), 3);
  fs::remove(folder / "latest");
  EXPECT_EQ(whole_step(folder.path()), 3);
  std::ofstream(folder / "latest") << "step-000000009\n";
  EXPECT_EQ(whole_step(folder.path()), 3);
  save(folder.path(), 5);
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"latest", "step-000000003", "step-000000005"}));
}

TEST(CheckpointTest, AKilledRunLeavesTheLastGoodOne) {
  at::set_num_threads(1);
  const TemporaryFolder folder;
  save(folder.path(), 1);
  std::int64_t last = 1;
  std::set<std::int64_t> seen;
  // On a busy machine a child may be killed before it gets to write: it is then given longer.
  std::chrono::microseconds patience(3000);
  for (int round = 0; round < 30; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (int step = static_cast<int>(last) + 1;; ++step) save(folder.path(), step);
    }
    std::this_thread::sleep_for(patience + std::chrono::microseconds(577 * round));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
    const std::int64_t step = whole_step(folder.path());
    EXPECT_GE(step, last);
    if (step == last) patience = std::min(2 * patience, std::chrono::microseconds(500'000));
    last = step;
    seen.insert(step);
  }
  EXPECT_GT(seen.size(), 1U) << "no child got to write a checkpoint";
}

TEST(CheckpointTest, EveryRankHearsOfARankThatCannotWrite) {
  const TemporaryFolder folder;
  int failed = 0;
  std::mutex mutex;
  run_local(2, [&](Transport& transport) {
    std::vector<StageTensors> stages{stage_at(transport.rank(), 1)};
    if (transport.rank() == 1) stages[0].tensors[0].tensor = at::Tensor();
    try {
      save_checkpoint(transport, folder.path(), 1, stages, {});
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("rank 1: "), std::string::npos) << error.what();
      const std::lock_guard lock(mutex);
      ++failed;
    }
  });
  EXPECT_EQ(failed, 2);
  EXPECT_THROW(Checkpoint(folder.path()), Error);
}

TEST(CheckpointTest, RefusesANameThatTwoStagesHave) {
  const TemporaryFolder folder;
  const auto transports = make_local_transports(1);
  StageTensors other = stage_at(0, 1);
  other.stage = 1;
  EXPECT_THROW(save_checkpoint(*transports[0], folder.path(), 1, {stage_at(0, 1), other}, {}), InvalidConfig);
}

TEST(CheckpointTest, RefusesToLoadWhatDoesNotFit) {
  const TemporaryFolder folder;
  save(folder.path(), 1);
  const Checkpoint checkpoint(folder.path());
  EXPECT_THROW(checkpoint.load({{"layer9.weight", at::empty({8, 4})}}), Error);
  EXPECT_THROW(checkpoint.load({{"layer0.weight", at::empty({4, 8})}}), Error);
  EXPECT_THROW(checkpoint.load({{"layer0.weight", at::empty({8, 4}, at::kDouble)}}), Error);
}

TEST(CheckpointTest, RefusesAHostileIndex) {
  const TemporaryFolder folder;
  save(folder.path(), 1);
  const std::string head = R"({"metadata":{"format":"counterflow checkpoint 1","step":1,"state":{}},)";
  for (const std::string& index : {
           std::string(),
           std::string("{}"),
           std::string("[1]"),
           std::string(R"({"metadata":{"format":"another","step":1,"state":{}},"weight_map":{}})"),
           std::string(
               R"({"metadata":{"format":"counterflow checkpoint 1","step":-1,"state":{}},"weight_map":{}})"),
           std::string(
               R"({"metadata":{"format":"counterflow checkpoint 1","step":1,"state":[]},"weight_map":{}})"),
           head + R"("weight_map":{"a":1}})",
           head + R"("weight_map":{"a":"../../etc/passwd"}})",
           head + R"("weight_map":{"a":"/etc/passwd"}})",
           head + R"("weight_map":{"a":".."}})",
           head + R"("weight_map":{"a":""}})",
           std::string(100000, '['),
       }) {
    std::ofstream(folder / "step-000000001/model.safetensors.index.json") << index;
    EXPECT_THROW(Checkpoint(folder.path()), Error) << index.substr(0, 100);
  }
}

TEST(CheckpointTest, SaysWhereThereIsNone) {
  const TemporaryFolder folder;
  for (const std::string& path : {folder.path(), folder / "nowhere"}) {
    try {
      const Checkpoint checkpoint(path);
      FAIL();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace counterflow::runtime
