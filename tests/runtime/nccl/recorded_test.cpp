// Whole steps as CUDA graphs where there is no GPU: the recorder and the transport over NCCL, over fakes that
// capture and replay (fake_graph.h).
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tanh.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <thread>
#include <utility>

#include "counterflow/generate.h"
#include "counterflow/runtime/cuda_recorder.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/nccl.h"
#include "counterflow/runtime/pipeline.h"
#include "ranks.h"

namespace counterflow::runtime {
namespace {

using namespace std::chrono_literals;
using fake::Outcome;
using testing::MatchesRegex;

const at::Device kGpu(at::kCUDA, 0);

/// tanh(x · weight + bias), with numbers of its own for each stage.
struct Layer : torch::nn::Module {
  explicit Layer(int stage)
      : weight(
            register_parameter("weight", (at::arange(9, at::kFloat).view({3, 3}) / (10 + stage)).to(kGpu))),
        bias(register_parameter("bias", at::full({3}, 0.1 * stage, kGpu))) {}

  at::Tensor forward(const at::Tensor& x) const { return at::tanh(at::matmul(x, weight) + bias); }

  at::Tensor weight, bias;
};

struct Setting {
  std::string_view generator = "1f1b";
  int num_ranks = 2;
  int num_micro_batches = 4;
  int steps = 6;
  bool records = true;
  bool evaluates = true;  ///< after some steps
  int streams = 1;
  std::optional<at::ScalarType> gradient_type{};
  std::chrono::milliseconds timeout = 60s;
  std::chrono::milliseconds heartbeat_timeout = 10s;  ///< long, for a machine that is busy with other things
  std::function<std::shared_ptr<StepRecorder>()> recorder = [] { return make_cuda_recorder(0); };
  std::function<int(int step)> rows = [](int) { return 2; };  ///< of a micro-batch
  std::function<void(int rank)> between = [](int) {};         ///< the fourth step and the fifth
  std::function<void(int rank, const at::Tensor&)> forward = [](int, const at::Tensor&) {};  ///< before it
};

/// Other numbers in each step.
Batch batch(const Setting& setting, int step) {
  Batch all;
  for (int m = 0; m < setting.num_micro_batches; ++m) {
    const double number = 0.1 * step + 0.01 * m;
    all.inputs.push_back({at::full({setting.rows(step), 3}, number, kGpu)});
    all.targets.push_back({at::full({setting.rows(step), 3}, 1 - number, kGpu)});
  }
  return all;
}

/// A step that adds to the gradients that there are: a recorded one adds the sum over its micro-batches, one
/// that is not adds each, and would round differently.
StepResult accumulate(Pipeline& pipeline, const Setting& setting, const Batch& batch) {
  if (setting.records) return pipeline.step(batch);
  std::vector<at::Tensor> before;
  for (const at::Tensor& parameter : pipeline.parameters())
    before.push_back(std::exchange(parameter.mutable_grad(), {}));
  StepResult result = pipeline.step(batch);
  for (std::size_t i = 0; i < before.size(); ++i) {
    at::Tensor& gradient = pipeline.parameters()[i].mutable_grad();
    gradient = before[i] + gradient;
  }
  return result;
}

/// Leaves the losses and gradients of every step. Some add to the gradients of the one before, and some come
/// after an evaluation.
void train(const Setting& setting, int rank, const fake::OpenStore& open_store) {
  const auto transport = make_nccl_transport(open_store, rank, setting.num_ranks,
                                             {.heartbeat_timeout = setting.heartbeat_timeout});
  PipelineOptions options;
  options.loss = [](const at::Tensor& output, const at::Tensor& target) {
    return (output - target).square().mean();
  };
  if (setting.records) options.recorder = setting.recorder();
  options.streams = setting.streams;
  options.gradient_type = setting.gradient_type;
  options.timeout = setting.timeout;
  Pipeline pipeline(
      generate(setting.generator, {setting.num_ranks, setting.num_micro_batches}), *transport,
      [&](int stage) {
        const auto layer = std::make_shared<Layer>(stage);
        return make_stage(
            [&setting, rank, layer](const Tensors& x) {
              setting.forward(rank, x.at(0));
              return Tensors{layer->forward(x.at(0))};
            },
            layer);
      },
      std::move(options));
  fake::note_set_up();
  for (int step = 0; step < setting.steps; ++step) {
    if (step == 4) setting.between(rank);
    const bool adds = step == 3 || step == 5;
    if (!adds)
      for (const at::Tensor& parameter : pipeline.parameters()) parameter.mutable_grad() = at::Tensor();
    const StepResult result =
        adds ? accumulate(pipeline, setting, batch(setting, step)) : pipeline.step(batch(setting, step));
    for (const at::Tensor& loss : result.losses)
      if (loss.defined()) fake::leave(loss);
    for (const at::Tensor& parameter : pipeline.parameters()) fake::leave(parameter.grad());
    if (!setting.evaluates || (step != 2 && step != 4)) continue;
    for (const Tensors& outputs : pipeline.evaluate(batch(setting, step)).outputs)
      for (const at::Tensor& output : outputs) fake::leave(output);
  }
}

std::vector<Outcome> run(const Setting& setting) {
  return fake::run_ranks(setting.num_ranks, [&](int rank, const fake::OpenStore& open_store) {
    train(setting, rank, open_store);
  });
}

void expect_trains_as_unrecorded(const Setting& setting) {
  SCOPED_TRACE(std::string(setting.generator) + ", " + std::to_string(setting.num_ranks) + " ranks, " +
               std::to_string(setting.streams) + " streams");
  Setting eager = setting;
  eager.records = false;
  eager.streams = 1;
  const std::vector<Outcome> expected = run(eager);
  const std::vector<Outcome> found = run(setting);
  for (int rank = 0; rank < setting.num_ranks; ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    ASSERT_EQ(expected[rank].error, "");
    ASSERT_EQ(found[rank].error, "");
    EXPECT_STREQ(found[rank].whole.misuse, "");
    EXPECT_EQ(found[rank].whole.destroyed, found[rank].set_up.made);
    EXPECT_EQ(found[rank].whole.aborted, 0);
    EXPECT_GE(found[rank].numbers.size(), 12U * setting.steps);
    ASSERT_EQ(found[rank].numbers.size(), expected[rank].numbers.size());
    const auto [one, other] =
        std::mismatch(found[rank].numbers.begin(), found[rank].numbers.end(), expected[rank].numbers.begin());
    if (one != found[rank].numbers.end())
      ADD_FAILURE() << "number " << one - found[rank].numbers.begin() << " of " << found[rank].numbers.size()
                    << " is " << *one << ", not " << *other;
  }
}

/// Every generator, with the fewest micro-batches that it takes.
std::vector<Setting> settings_of_generators(int num_ranks) {
  std::vector<Setting> all;
  for (const Generator* generator : all_generators()) {
    for (const int num_micro_batches : {2, 3, 4, 6, 8, 10, 12}) {
      if (!generator->fits({num_ranks, num_micro_batches, generator->stages_per_rank})) continue;
      all.push_back({generator->name, num_ranks, num_micro_batches});
      break;
    }
  }
  return all;
}

class RecordedTrainingTest : public testing::TestWithParam<int> {};

/// The trial records steps on one stream, then on two, then on those that it chose.
TEST_P(RecordedTrainingTest, TrainsAsUnrecordedStepsWhileItTriesStreams) {
  std::vector<Setting> settings = settings_of_generators(GetParam());
  EXPECT_GT(settings.size(), 10);
  for (Setting& setting : settings) {
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

/// Ranks that are threads of one process: recording again waits for all devices, and a device that replays
/// already waits for its peers.
TEST(RecordedTest, NoRankReplaysWhileAnotherRecords) {
  Setting setting{.steps = 9, .streams = 0};
  setting.between = [](int rank) {
    fake::faults().one_process = true;
    if (rank == 1) fake::faults().frees_take_ms = 200;  // in the step that is recorded again
  };
  expect_trains_as_unrecorded(setting);
}

/// So that those who watch the transport meanwhile look at what is recorded.
TEST(RecordedTest, ARecordingMayTakeLong) {
  Setting setting{.steps = 2};
  setting.forward = [](int, const at::Tensor&) { std::this_thread::sleep_for(100ms); };
  expect_trains_as_unrecorded(setting);
}

TEST(RecordedTest, ARecordingGoesBeforeTheTransportThoughItsRecorderStays) {
  Setting setting{.steps = 3};
  setting.recorder = [] {
    static const auto stays = make_cuda_recorder(0);
    return stays;
  };
  expect_trains_as_unrecorded(setting);
}

/// Ends within seconds, and leaves no communicator and nothing that waits for one.
void expect_ends(const Outcome& outcome, int rank, double seconds, const std::string& error) {
  SCOPED_TRACE("rank " + std::to_string(rank));
  ASSERT_TRUE(outcome.ended);
  EXPECT_LT(outcome.seconds, seconds);
  EXPECT_THAT(outcome.error, MatchesRegex("rank " + std::to_string(rank) + ": " + error));
  EXPECT_EQ(outcome.whole.aborted, outcome.whole.made);
  EXPECT_EQ(outcome.whole.destroyed, 0);
  EXPECT_STREQ(outcome.whole.misuse, "");
}

TEST(RecordedTest, RefusesAStageThatWaitsForTheDevice) {
  Setting setting;
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
  Setting setting;
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
    Setting setting{.steps = 10, .evaluates = evaluates, .heartbeat_timeout = 1s};
    setting.between = [](int rank) {
      if (rank != 1) return;
      fake::note_trouble();
      throw Error("rank 1: no more data");
    };
    const std::vector<Outcome> outcomes = run(setting);
    expect_ends(outcomes[0], 0, 10,
                "before the first action: rank 1 ended: an exception ended it" + at(0, "0B0"));
    expect_ends(outcomes[1], 1, 10, "no more data");
  }
}

TEST(RecordedTest, AProcessThatIsKilledOrStoppedIsMissed) {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    Setting setting{.num_ranks = 3, .steps = 10, .evaluates = false, .heartbeat_timeout = 1s};
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
  Setting setting{.num_ranks = 3, .steps = 10, .evaluates = false, .timeout = 5s};
  setting.between = [](int rank) {
    if (rank != 1) return;
    fake::note_trouble();
    std::this_thread::sleep_for(9s);
  };
  const std::vector<Outcome> outcomes = run(setting);
  // Of the two that wait, either may be the first to give up.
  const std::string stood =
      "before the first action: rank (0 ended: a recorded step stood at 0B0|2 ended: a recorded step stood "
      "at 2F0) "
      "for 5 s";
  const std::string where = "(; rank [02]'s GPU was at (0B0|2F0) of a recorded step)?";
  expect_ends(outcomes[0], 0, 20, stood + where);
  expect_ends(outcomes[1], 1, 20, stood);
  expect_ends(outcomes[2], 2, 20, stood + where);
}

}  // namespace
}  // namespace counterflow::runtime
