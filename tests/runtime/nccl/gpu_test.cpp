// What carries tensors between GPUs, and which GPUs ranks may be on, where there is none (fake_peers.h).
#include "counterflow/runtime/gpu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "counterflow/runtime/error.h"
#include "fake_peers.h"
#include "training.h"

namespace counterflow::runtime {
namespace {

using fake::Outcome;
using fake::Training;
using testing::HasSubstr;

/// Of two ranks.
Training chosen() {
  return {.steps = 3, .records = false, .link = GpuLink::kAutomatic};
}

TEST(GpuTest, TakesTheCopyEnginesWhereAllRanksReachIntoAllOthersMemory) {
  for (const Outcome& outcome : fake::run(chosen())) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.whole.made, 0) << "no communicator of NCCL";
    EXPECT_STREQ(outcome.whole.misuse, "");
  }
}

TEST(GpuTest, TakesNcclOnAllRanksWhereOneCannotShowItsMemory) {
  Training training = chosen();
  training.before = [](int rank) { fake::peer_faults().no_ipc = rank == 1; };
  for (const Outcome& outcome : fake::run(training)) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_GT(outcome.whole.made, 0);
    EXPECT_STREQ(outcome.whole.misuse, "");
  }
}

TEST(GpuTest, RefusesRanksOnOneGpuUnlessTheyMayShareIt) {
  for (const bool may_share : {false, true}) {
    Training training = chosen();
    training.may_share = may_share;
    training.before = [](int) { fake::peer_faults().one_gpu = true; };
    for (const Outcome& outcome : fake::run(training)) {
      if (may_share)
        EXPECT_EQ(outcome.error, "");
      else
        EXPECT_THAT(outcome.error, HasSubstr("ranks 0 and 1 are on the same GPU"));
    }
  }
}

TEST(GpuTest, RefusesThreadsOnOneGpu) {
  for (const bool may_share : {false, true}) {
    const std::vector<Outcome> outcomes = fake::run_ranks(1, [&](int, const fake::OpenStore&) {
      const auto store = c10::make_intrusive<c10d::HashStore>();
      std::string errors[2];
      const auto come = [&](int rank) {
        try {
          make_gpu_transport([&] { return store; }, rank, 2, {.may_share = may_share});
        } catch (const TransportError& error) {
          errors[rank] = error.what();
        }
      };
      std::thread other(come, 1);
      come(0);
      other.join();
      throw Error(errors[0] + " | " + errors[1]);
    });
    EXPECT_THAT(outcomes.at(0).error,
                testing::MatchesRegex("ranks 0 and 1 are on the same GPU.* \\| ranks 0 and 1 are on the same "
                                      "GPU.*"));
  }
}

}  // namespace
}  // namespace counterflow::runtime
