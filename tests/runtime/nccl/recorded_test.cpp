// Whole steps as CUDA graphs where there is no GPU: the recorder and the transport over NCCL, over fakes that
// capture and replay (fake_graph.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "counterflow/runtime/error.h"
#include "training.h"

namespace counterflow::runtime {
namespace {

using namespace std::chrono_literals;
using fake::expect_ends;
using fake::expect_trains_as_unrecorded;
using fake::Outcome;
using fake::run;
using fake::Training;

class RecordedTrainingTest : public testing::TestWithParam<int> {};

/// The trial records steps on one stream, then on two, then on those that it chose.
TEST_P(RecordedTrainingTest, TrainsAsUnrecordedStepsWhileItTriesStreams) {
  std::vector<Training> settings = fake::trainings_of_generators(GetParam());
  EXPECT_GT(settings.size(), 10);
  for (Training& setting : settings) {
    setting.streams = 0;
    setting.steps = 9;
    expect_trains_as_unrecorded(setting);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, RecordedTrainingTest, testing::Values(2, 4));

TEST(RecordedTest, TrainsAsUnrecordedStepsOnAsManyStreamsAsAsked) {
  for (const int streams : {1, 3})
    expect_trains_as_unrecorded(
        {.generator = "dualpipe", .num_ranks = 4, .num_micro_batches = 8, .steps = 4, .streams = streams});
}

/// These are added up outside of autograd, which knows of no other stream.
TEST(RecordedTest, TrainsAsUnrecordedStepsWithWiderGradients) {
  for (const std::string_view generator : {"dualpipe", "zb-h1"})
    expect_trains_as_unrecorded(
        {.generator = generator, .steps = 4, .streams = 2, .gradient_type = at::kDouble});
}

TEST(RecordedTest, TrainsAsUnrecordedStepsOnEightRanks) {
  expect_trains_as_unrecorded({.num_ranks = 8, .num_micro_batches = 8, .steps = 4});
  expect_trains_as_unrecorded(
      {.generator = "dualpipe", .num_ranks = 8, .num_micro_batches = 16, .steps = 4, .streams = 2});
}

TEST(RecordedTest, RanksThatAreProcessesTryStreamsUnlessItIsSaid) {
  Training setting{.evaluates = false, .streams = std::nullopt};
  setting.forward = [forwards = 0](int, const at::Tensor&) mutable {
    if (++forwards <= 2 * 4) return;  // a step as it is, and one that is recorded
    fake::note_trouble();
    throw Error("recorded again");
  };
  const std::vector<Outcome> outcomes = run(setting);
  for (const int rank : {0, 1}) expect_ends(outcomes[rank], rank, 10, ".*recorded again.*");
}

/// Ranks that are threads of one process: recording again waits for all devices, and a device that replays
/// already waits for its peers.
TEST(RecordedTest, NoRankReplaysWhileAnotherRecords) {
  Training setting{.steps = 9, .streams = 0};
  setting.between = [](int rank) {
    fake::faults().one_process = true;
    if (rank == 1) fake::faults().frees_take_ms = 200;  // in the step that is recorded again
  };
  expect_trains_as_unrecorded(setting);
}

/// So that those who watch the transport meanwhile look at what is recorded.
TEST(RecordedTest, ARecordingMayTakeLong) {
  Training setting{.steps = 2};
  setting.forward = [](int, const at::Tensor&) { std::this_thread::sleep_for(100ms); };
  expect_trains_as_unrecorded(setting);
}

TEST(RecordedTest, ARecordingGoesBeforeTheTransportThoughItsRecorderStays) {
  Training setting{.steps = 3};
  setting.recorder = [] {
    static const auto stays = make_cuda_recorder(0);
    return stays;
  };
  expect_trains_as_unrecorded(setting);
}

TEST(RecordedTest, RefusesAStageThatWaitsForTheDevice) {
  Training setting;
  setting.forward = [](int rank, const at::Tensor& x) {
    if (rank != 1) return;
    fake::note_trouble();  // the last one that is noted counts
    if (x.sum().item<float>() < -1e9) throw Error("no such number");
  };
  const std::vector<Outcome> outcomes = run(setting);
  const std::string reason =
      "1F0: this step cannot be recorded: CUDA error: operation not permitted when stream is capturing";
  expect_ends(outcomes[0], 0, 10, ".*rank 1 ended: " + reason + ".*");
  expect_ends(outcomes[1], 1, 10, reason);
}

TEST(RecordedTest, RefusesABatchOfAnotherShape) {
  Training setting;
  setting.rows = [](int step) { return step == 4 ? 5 : 2; };
  setting.between = [](int) { fake::note_trouble(); };
  const std::vector<Outcome> outcomes = run(setting);
  for (const int rank : {0, 1})
    expect_ends(
        outcomes[rank], rank, 4,
        "before the first action: the (inputs|targets) of micro-batch 0 are Float.5, 3.; the recorded step "
        "takes Float.2, 3.");
}

/// The action whose message the replay was waiting for.
std::string at(int rank, const std::string& action) {
  return "; rank " + std::to_string(rank) + "'s GPU was at " + action + " of a recorded step";
}

TEST(RecordedTest, ARankThatLeavesWithAnExceptionEndsAllRanks) {
  for (const bool evaluates : {false, true}) {
    Training setting{.steps = 10, .evaluates = evaluates, .heartbeat_timeout = 1s};
    setting.between = [](int rank) {
      if (rank != 1) return;
      fake::note_trouble();
      throw Error("rank 1: no more data");
    };
    const std::vector<Outcome> outcomes = run(setting);
    expect_ends(outcomes[0], 0, 10,
                "before the first action: rank 1 ended: an exception ended it(" + at(0, "0B0") +
                    ")?");  // it may hear of it before it replays
    expect_ends(outcomes[1], 1, 10, "no more data");
  }
}

TEST(RecordedTest, AProcessThatIsKilledOrStoppedIsMissed) {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    Training setting{.num_ranks = 3, .steps = 10, .evaluates = false, .heartbeat_timeout = 1s};
    setting.between = [signal](int rank) {
      if (rank != 1) return;
      fake::note_trouble();
      raise(signal);
    };
    const std::vector<Outcome> outcomes = run(setting);
    const std::string reason =
        "before the first action: rank 1 ended: its process gives no sign of life any more";
    expect_ends(outcomes[0], 0, 10, reason + at(0, "0B0"));
    expect_ends(outcomes[2], 2, 10, reason + at(2, "2F0"));
  }
}

TEST(RecordedTest, ARankThatStaysAwayIsReportedWithTheActionThatTheReplayHadComeTo) {
  Training setting{.num_ranks = 3, .steps = 10, .evaluates = false, .timeout = 5s};
  setting.between = [](int rank) {
    if (rank != 1) return;
    fake::note_trouble();
    std::this_thread::sleep_for(9s);
  };
  const std::vector<Outcome> outcomes = run(setting);
  // Of the two that wait, either may be the first to give up.
  const std::string stood =
      "before the first action: (rank [02] ended: )?a recorded step stood at (0B0|2F0) for 5 s";
  const std::string where = "(; rank [02]'s GPU was at (0B0|2F0) of a recorded step)?";
  expect_ends(outcomes[0], 0, 20, stood + where);
  expect_ends(outcomes[1], 1, 20, stood);
  expect_ends(outcomes[2], 2, 20, stood + where);
}

}  // namespace
}  // namespace counterflow::runtime
