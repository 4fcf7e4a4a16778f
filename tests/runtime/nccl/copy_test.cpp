// The transport over the copy engines where there is no GPU: its own objects, over fakes of CUDA's memory
// that peers reach into, and of streams that wait for numbers there, eager and in graphs.
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAStream.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "counterflow/runtime/copy_engines.h"
#include "counterflow/runtime/error.h"
#include "fake_device.h"
#include "fake_queues.h"
#include "stream_values.h"
#include "training.h"

namespace counterflow::runtime {
namespace {

using namespace std::chrono_literals;
using fake::expect_ends;
using fake::expect_trains_as_unrecorded;
using fake::Outcome;
using fake::run;
using fake::Training;

constexpr std::string_view kGenerators[] = {"1f1b", "dualpipe", "zbv", "dualpipe-v"};

Training over_copy_engines(std::string_view generator, int num_ranks, bool records) {
  Training training;
  training.generator = generator;
  training.num_ranks = num_ranks;
  training.num_micro_batches = 2 * num_ranks;
  training.records = records;
  training.link = GpuLink::kCopyEngines;
  return training;
}

class CopyTrainingTest : public testing::TestWithParam<int> {};

TEST_P(CopyTrainingTest, TrainsAsOverNccl) {
  for (const std::string_view generator : kGenerators)
    expect_trains_as_unrecorded(over_copy_engines(generator, GetParam(), false));
}

TEST_P(CopyTrainingTest, TrainsInRecordedSteps) {
  for (const std::string_view generator : kGenerators) {
    Training training = over_copy_engines(generator, GetParam(), true);
    training.streams = 2;
    if (generator == "dualpipe") {  // which tries out streams, and is recorded again for that
      training.streams = 0;
      training.steps = 9;
    }
    expect_trains_as_unrecorded(training);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, CopyTrainingTest, testing::Values(2, 4));

TEST(CopyTest, OneSlotIsEnough) {
  for (const bool records : {false, true}) {
    Training training = over_copy_engines("dualpipe", 2, records);
    training.slots = 1;
    training.steps = 4;
    expect_trains_as_unrecorded(training);
  }
}

TEST(CopyTest, RefusesRanksOfDifferentSlots) {
  const std::vector<Outcome> outcomes = fake::run_ranks(2, [](int rank, const fake::OpenStore& open_store) {
    const auto transport =
        make_copy_engine_transport(open_store, rank, 2, {.slots = rank + 1, .slot_bytes = 16});
    Wiring wiring;
    wiring.channels = {{0, 1, 1}};
    transport->connect(wiring);
  });
  EXPECT_EQ(outcomes[0].error,
            "rank 1 has 2 slots of 16 bytes, rank 0 1 slots of 16 bytes: give all the same");
  EXPECT_EQ(outcomes[1].error,
            "rank 0 has 1 slots of 16 bytes, rank 1 2 slots of 16 bytes: give all the same");
}

TEST(CopyTest, ARankThatThrowsEndsAllRanks) {
  for (const bool records : {false, true}) {
    Training training = over_copy_engines("dualpipe", 2, records);
    training.steps = 20;
    training.between = [](int rank) {
      if (rank != 1) return;
      fake::note_trouble();
      throw Error("rank 1: no more data");
    };
    const std::vector<Outcome> outcomes = run(training);
    expect_ends(outcomes[0], 0, 10, ".*rank 1 ended: an exception ended it(; rank 0's GPU was .*)?");
    expect_ends(outcomes[1], 1, 10, "no more data");
  }
}

void kill_rank_1(int rank) {
  if (rank != 1) return;
  fake::note_trouble();
  raise(SIGKILL);
}

void keep_rank_1_away(int rank) {
  if (rank != 1) return;
  fake::note_trouble();
  std::this_thread::sleep_for(7s);
}

void expect_rank_1_is_missed(
    const std::vector<Outcome>& outcomes,
    const std::string& report = ".*rank 1 ended: its process gives no sign of life any more.*") {
  EXPECT_FALSE(outcomes[1].ended);
  expect_ends(outcomes[0], 0, 10, report);
}

void expect_rank_0_gives_up(const std::vector<Outcome>& outcomes, const std::string& action,
                            const std::string& reason) {
  expect_ends(outcomes[0], 0, 15, action + ": " + reason);
  expect_ends(outcomes[1], 1, 15, ".*rank 0 ended: " + reason + ".*");
}

TEST(CopyTest, ARankThatStaysAwayFromARecordedStepIsGivenUpAfterTheTimeLimit) {
  Training training = over_copy_engines("1f1b", 2, true);
  training.steps = 20;
  training.timeout = 4s;
  training.between = keep_rank_1_away;
  expect_rank_0_gives_up(run(training), "before the first action", "a recorded step stood at 0B0 for 4 s");
}

TEST(CopyTest, AProcessThatIsKilledBetweenStepsIsMissed) {
  Training training = over_copy_engines("dualpipe", 2, false);
  training.steps = 20;
  training.heartbeat_timeout = 1s;
  training.between = kill_rank_1;
  expect_rank_1_is_missed(run(training));
}

bool is_capturing() {
  cudaStreamCaptureStatus status{};
  cudaStreamIsCapturing(c10::cuda::getCurrentCUDAStream().stream(), &status);
  return status == cudaStreamCaptureStatusActive;
}

/// In a capture: the device does this when it comes here in so manieth a replay.
void in_replay(int number, const std::function<void()>& what) {
  const auto count = std::make_shared<int>(0);
  fake::enqueue(c10::cuda::getCurrentCUDAStream().stream(), [=] {
    if (++*count == number) what();
    return true;
  });
}

/// Rank 1 gets a signal in the midst of a replay.
Training stricken_in_a_replay(std::string_view generator, int signal) {
  Training training = over_copy_engines(generator, 2, true);
  training.steps = 20;
  training.evaluates = false;
  training.heartbeat_timeout = 1s;
  training.forward = [signal, forwards = 0](int rank, const at::Tensor&) mutable {
    if (rank != 1 || !is_capturing() || ++forwards != 3) return;
    in_replay(4, [signal] {
      fake::note_trouble();
      raise(signal);
    });
  };
  return training;
}

void expect_is_missed_in_a_replay(const std::vector<Outcome>& outcomes) {
  expect_rank_1_is_missed(
      outcomes,
      "before the first action: rank 1 ended: its process gives no sign of life any more; rank 0's GPU "
      "was at .+ of a recorded step");
}

TEST(CopyTest, AProcessThatIsKilledOrStoppedInTheMidstOfAReplayIsMissed) {
  expect_is_missed_in_a_replay(run(stricken_in_a_replay("1f1b", SIGKILL)));
  expect_is_missed_in_a_replay(run(stricken_in_a_replay("dualpipe", SIGKILL)));
  expect_is_missed_in_a_replay(run(stricken_in_a_replay("dualpipe", SIGSTOP)));
}

/// As many as a device has.
void have_eight_queues() {
  fake::set_queues({.number = 8});
}

TEST(CopyTest, TrainsWhereQueuesAreFew) {
  for (const bool records : {false, true}) {
    Training training = over_copy_engines("dualpipe", 2, records);
    training.before = [](int) { have_eight_queues(); };
    expect_trains_as_unrecorded(training);
  }
}

/// Whatever queues other streams have taken meanwhile: what lets go of those that wait must not be behind
/// one.
TEST(CopyTest, AProcessThatIsKilledInTheMidstOfAReplayIsMissedWhereQueuesAreFew) {
  for (const int others : {3, 6}) {
    Training training = stricken_in_a_replay("dualpipe", SIGKILL);
    training.before = [](int) { have_eight_queues(); };
    training.between = [others](int) {
      for (int i = 0; i < others; ++i) fake::make_stream();
    };
    expect_is_missed_in_a_replay(run(training));
  }
}

/// Rank 0 asks for more in a forward than fits into a queue: a host that is far ahead is held up inside the
/// driver, and with it all threads that ask the driver for anything.
Training held_up_by_the_driver() {
  Training training = over_copy_engines("dualpipe", 2, false);
  training.steps = 20;
  training.before = [](int) { fake::set_queues({.number = 8, .room = 100}); };
  training.forward = [](int rank, const at::Tensor&) {
    if (rank != 0) return;
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream().stream();
    for (int i = 0; i < 200; ++i) fake::enqueue(stream, [] { return true; });
  };
  return training;
}

TEST(CopyTest, AProcessThatIsKilledIsMissedWhereTheDriverHoldsUpTheHost) {
  Training training = held_up_by_the_driver();
  training.heartbeat_timeout = 1s;
  training.between = kill_rank_1;
  expect_rank_1_is_missed(run(training));
}

TEST(CopyTest, ARankThatIsStuckIsGivenUpWhereTheDriverHoldsUpTheHost) {
  Training training = held_up_by_the_driver();
  training.timeout = 4s;
  training.between = keep_rank_1_away;
  expect_rank_0_gives_up(run(training), "0[FBIW]+[0-9]+",
                         "the GPU, whose queues are full, has taken nothing for 4 s");
}

void receive(Transport& transport, const Pass& producer) {
  transport.post_receive(0, 0, producer);
  transport.wait(0, 0);
}

/// A recorded step is on no line's stream.
TEST(CopyTest, ARankThatLeavesWaitsForItsReplay) {
  const std::vector<Outcome> outcomes = fake::run_ranks(2, [](int rank, const fake::OpenStore& open_store) {
    const auto recorder = make_cuda_recorder(0);
    const auto transport = make_copy_engine_transport(open_store, rank, 2, {.slot_bytes = 16});
    Wiring wiring;
    wiring.channels = {{0, 1, 1}};
    transport->connect(wiring);
    const auto step = [&] {
      const Pass producer{0, 0, PassKind::kForward};
      transport->begin_step(true);
      if (rank == 0)
        transport->send(1, {producer, {at::full({3}, 1.0, at::Device(at::kCUDA, 0))}, {true}});
      else
        receive(*transport, producer);
      transport->flush();
    };
    recorder->run([&] {
      step();
      recorder->record([&] {
        const auto begin = std::chrono::steady_clock::now();
        fake::enqueue(c10::cuda::getCurrentCUDAStream().stream(),
                      [begin] { return std::chrono::steady_clock::now() > begin + 500ms; });
        step();
      });
      recorder->replay({});
    });
  });
  for (const Outcome& outcome : outcomes) {
    EXPECT_TRUE(outcome.ended);
    EXPECT_EQ(outcome.error, "");
    EXPECT_STREQ(outcome.whole.misuse, "");
  }
}

/// The driver does one thing at a time, and may wait for a replay before it destroys its graph.
TEST(CopyTest, ARecordingIsForgottenWhileAnotherThreadLetsGoOfItsReplay) {
  const std::vector<Outcome> outcomes = fake::run_ranks(1, [](int, const fake::OpenStore&) {
    fake::set_queues({.number = 8, .graphs_wait = true});
    const StreamValues values;
    const LineStream frees;
    std::uint32_t* number = nullptr;
    check(cudaHostAlloc(reinterpret_cast<void**>(&number), sizeof *number, cudaHostAllocMapped), "memory");
    const auto recorder = make_cuda_recorder(0);
    recorder->run([&] {
      recorder->record(
          [&] { values.await_and_write(c10::cuda::getCurrentCUDAStream().stream(), number, 1, 1); });
      recorder->replay({});
    });
    std::thread lets_go([&] {
      std::this_thread::sleep_for(100ms);
      values.write(frees.get(), number, 1);
    });
    recorder->forget();
    lets_go.join();
  });
  EXPECT_TRUE(outcomes[0].ended);
  EXPECT_EQ(outcomes[0].error, "");
}

/// What the device was not yet asked for cannot hold up the host inside the driver.
TEST(CopyTest, TheHostIsNoFurtherAheadThanTwoReplays) {
  const std::vector<Outcome> outcomes = fake::run_ranks(1, [](int, const fake::OpenStore& open_store) {
    const auto recorder = make_cuda_recorder(0);
    const auto transport = make_copy_engine_transport(open_store, 0, 1);
    transport->connect({});
    const auto done = std::make_shared<std::atomic<int>>(0);
    recorder->run([&] {
      recorder->record([&] {
        fake::enqueue(c10::cuda::getCurrentCUDAStream().stream(), [done] {
          std::this_thread::sleep_for(20ms);
          return ++*done;
        });
      });
      int ahead = 0;
      for (int asked = 1; asked <= 6; ++asked) {
        transport->begin_step(true);
        recorder->replay({});
        transport->replayed([] { return std::string(); });
        ahead = std::max(ahead, asked - *done);
      }
      if (ahead > 2) throw Error("the host was " + std::to_string(ahead) + " replays ahead");
    });
  });
  EXPECT_EQ(outcomes[0].error, "");
  EXPECT_STREQ(outcomes[0].whole.misuse, "");
}

/// While it records, too: the reason is the other rank's.
TEST(CopyTest, ARankThatThrowsWhileAnotherRecordsEndsIt) {
  Training training = over_copy_engines("1f1b", 2, true);
  training.forward = [](int rank, const at::Tensor&) {
    if (!is_capturing()) return;
    if (rank == 0) return std::this_thread::sleep_for(400ms);
    fake::note_trouble();
    throw Error("out of luck");
  };
  const std::vector<Outcome> outcomes = run(training);
  expect_ends(outcomes[0], 0, 10, ".*rank 1 ended: 1F0: this step cannot be recorded: out of luck.*");
  expect_ends(outcomes[1], 1, 10, "1F0: this step cannot be recorded: out of luck");
}

}  // namespace
}  // namespace counterflow::runtime
