// The transport over NCCL where there is no GPU: its own objects, over a fake of NCCL, of CUDA's runtime and
// of libtorch's CUDA half. What a rank does when things go wrong, and what it leaves behind.
#include "counterflow/runtime/nccl.h"

#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/nn/module.h>

#include <cmath>
#include <thread>

#include "counterflow/generate.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pipeline.h"
#include "ranks.h"

namespace counterflow::runtime {
namespace {

using namespace std::chrono_literals;
using fake::expect_ends;
using fake::Outcome;
using testing::HasSubstr;
using testing::MatchesRegex;

const at::Device kGpu(at::kCUDA, 0);

/// Multiplies by a parameter, which is stage + 2.
struct Factor : torch::nn::Module {
  explicit Factor(int stage) : factor(register_parameter("factor", at::full({3}, stage + 2.0, kGpu))) {}
  at::Tensor factor;
};

struct Setting {
  std::string_view generator = "1f1b";
  int num_ranks = 3;
  int num_micro_batches = 4;
  int steps = 20;
  bool evaluates = false;  ///< after each step
  std::chrono::milliseconds timeout = 20s;
  std::chrono::milliseconds heartbeat_timeout = 1s;
  std::function<void(int rank)> before = [](int) {};   ///< setting up
  int leaver = -1;                                     ///< a rank that ends well after two steps
  std::function<void(int rank)> between = [](int) {};  ///< the second step and the third
  std::function<void(int rank, int number)> forward = [](int, int) {};  ///< before it; counted from 1
};

Batch batch(int num_micro_batches) {
  Batch all;
  for (int m = 0; m < num_micro_batches; ++m) {
    all.inputs.push_back({at::full({2, 3}, m + 1.0, kGpu)});
    all.targets.push_back({at::full({1}, 0.0, kGpu)});
  }
  return all;
}

/// Of the mean over the micro-batches of the sum of x · 2 · 3 · …, for one stage's factor.
void check_gradients(const Pipeline& pipeline) {
  double product = 1.0 + pipeline.schedule().num_micro_batches();  // two rows of the mean of 1, 2, …
  for (int stage = 0; stage < pipeline.schedule().num_stages(); ++stage) product *= stage + 2;
  for (const int stage : pipeline.stages()) {
    const at::Tensor gradient = pipeline.stage(stage).parameters().at(0).tensor.grad();
    for (int i = 0; i < 3; ++i) {
      const double found = gradient[i].item<double>();
      const double expected = product / (stage + 2);
      if (std::abs(found - expected) > 1e-4 * expected)
        throw Error("stage " + std::to_string(stage) + " has the gradient " + std::to_string(found) +
                    ", not " + std::to_string(expected));
    }
  }
}

void train(const Setting& setting, int rank, const fake::OpenStore& open_store) {
  setting.before(rank);
  const auto transport = make_nccl_transport(open_store, rank, setting.num_ranks,
                                             {.heartbeat_timeout = setting.heartbeat_timeout});
  int forwards = 0;
  Pipeline pipeline(generate(setting.generator, {setting.num_ranks, setting.num_micro_batches}), *transport,
                    [&](int stage) {
                      const auto module = std::make_shared<Factor>(stage);
                      return make_stage(
                          [&, module, rank](const Tensors& x) {
                            setting.forward(rank, ++forwards);
                            return Tensors{x.at(0) * module->factor};
                          },
                          module);
                    },
                    {.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); },
                     .timeout = setting.timeout});
  fake::note_set_up();
  for (int step = 0; step < setting.steps; ++step) {
    if (step == 2 && rank == setting.leaver) return fake::note_trouble();
    if (step == 2) setting.between(rank);
    for (const at::Tensor& parameter : pipeline.parameters()) parameter.mutable_grad() = at::Tensor();
    pipeline.step(batch(setting.num_micro_batches));
    check_gradients(pipeline);
    if (setting.evaluates) pipeline.evaluate(batch(setting.num_micro_batches));
  }
}

std::vector<Outcome> run(const Setting& setting) {
  return fake::run_ranks(setting.num_ranks, [&](int rank, const fake::OpenStore& open_store) {
    train(setting, rank, open_store);
  });
}

/// In a warm step, where the host does not wait: the action it was at, and what the GPU waited for.
std::string stuck(const std::string& reason) {
  return "[0-2][FB][0-3]: rank 1 ended: " + reason +
         "; rank [0-2]'s GPU was waiting for [0-2][FB][0-3] from rank [0-2]";
}

/// The third step's second forward.
constexpr int kWarm = 2 * 4 + 2;

/// The other ranks, which need what this one is about to make, have come to wait for it.
void note_trouble_once_awaited() {
  std::this_thread::sleep_for(200ms);
  fake::note_trouble();
}

/// Every generator, with the fewest micro-batches that it takes.
std::vector<Setting> settings_of_generators(int num_ranks) {
  std::vector<Setting> all;
  for (const Generator* generator : all_generators()) {
    for (const int num_micro_batches : {2, 3, 4, 6, 8, 10, 12}) {
      if (!generator->fits({num_ranks, num_micro_batches, generator->stages_per_rank})) continue;
      all.push_back({generator->name, num_ranks, num_micro_batches, 3, true});
      all.back().heartbeat_timeout = 10s;  // the machine may be busy with other things
      break;
    }
  }
  return all;
}

class NcclTrainingTest : public testing::TestWithParam<int> {};

TEST_P(NcclTrainingTest, TrainsAndLeavesNothingBehind) {
  const std::vector<Setting> settings = settings_of_generators(GetParam());
  EXPECT_GT(settings.size(), 10);
  for (const Setting& setting : settings) {
    SCOPED_TRACE(setting.generator);
    for (const Outcome& outcome : run(setting)) {
      EXPECT_TRUE(outcome.ended);
      EXPECT_EQ(outcome.error, "");
      EXPECT_STREQ(outcome.whole.misuse, "");
      EXPECT_GT(outcome.set_up.made, 0);
      EXPECT_GT(outcome.set_up.connected, 0);
      EXPECT_EQ(outcome.whole.made, outcome.set_up.made) << "no communicator is made in a step";
      EXPECT_EQ(outcome.whole.connected, outcome.set_up.connected) << "no ranks are connected in a step";
      EXPECT_EQ(outcome.whole.destroyed, outcome.whole.made);
      EXPECT_EQ(outcome.whole.aborted, 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, NcclTrainingTest, testing::Values(2, 3, 4));

TEST(NcclTest, SumsOfAGroupAreToldApartByTheirTurn) {
  const std::vector<Outcome> outcomes = fake::run_ranks(2, [](int rank, const fake::OpenStore& open_store) {
    const auto transport = make_nccl_transport(open_store, rank, 2, {.heartbeat_timeout = 1s});
    Wiring wiring;
    wiring.groups = {{0, 1}};
    transport->connect(wiring);
    for (int step = 0; step < 2; ++step) {
      transport->begin_step(true);
      Tensors first{at::full({3}, rank + 1.0, kGpu)};
      transport->all_reduce(0, first);
      Tensors second{rank == 0 ? at::full({5}, 7.0, kGpu) : at::Tensor()};
      transport->all_reduce(0, second);
      fake::leave(first[0]);
      fake::leave(second[0]);
    }
  });
  const std::vector<double> sums{3, 3, 3, 7, 7, 7, 7, 7, 3, 3, 3, 7, 7, 7, 7, 7};
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.numbers, sums);
    EXPECT_STREQ(outcome.whole.misuse, "");
  }
}

TEST(NcclTest, SumsOfOtherShapesAreAnError) {
  const std::vector<Outcome> outcomes = fake::run_ranks(2, [](int rank, const fake::OpenStore& open_store) {
    const auto transport = make_nccl_transport(open_store, rank, 2, {.heartbeat_timeout = 1s});
    Wiring wiring;
    wiring.groups = {{0, 1}};
    transport->connect(wiring);
    Tensors tensors{at::full({3 + rank}, 1.0, kGpu)};
    transport->all_reduce(0, tensors);
  });
  for (const Outcome& outcome : outcomes)
    EXPECT_THAT(outcome.error, MatchesRegex("a sum over Float.[34]. on one rank and Float.[34]. on another"));
}

TEST(NcclTest, AStoreThatAnotherTransportHasUsedIsAnError) {
  const std::vector<Outcome> outcomes = fake::run_ranks(2, [](int rank, const fake::OpenStore& open_store) {
    make_nccl_transport(open_store, rank, 2, {.heartbeat_timeout = 1s});
    make_nccl_transport(open_store, rank, 2, {.heartbeat_timeout = 1s});
  });
  for (const Outcome& outcome : outcomes)
    EXPECT_THAT(outcome.error, HasSubstr("give each transport keys of its own"));
}

TEST(NcclTest, ARankThatComesLateIsWaitedFor) {
  Setting setting{.steps = 1};
  setting.before = [](int rank) {
    if (rank == 2) std::this_thread::sleep_for(2500ms);  // more than twice the time-out of beats
  };
  for (const Outcome& outcome : run(setting)) EXPECT_EQ(outcome.error, "");
}

TEST(NcclTest, AnErrorThatNcclFindsBetweenCallsEndsAllRanks) {
  for (const ncclResult_t result : {ncclRemoteError, ncclSystemError}) {
    Setting setting;
    setting.forward = [&](int rank, int number) {
      if (rank != 1 || number != kWarm) return;
      note_trouble_once_awaited();
      fake::faults().asynchronous = result;
    };
    const std::vector<Outcome> outcomes = run(setting);
    const std::string reason =
        std::string("NCCL failed on channel/[0-2]-[0-2]: ") + ncclGetErrorString(result);
    const std::string waits = "; rank 1's GPU was waiting for [02][FB][0-3] from rank [02]";
    expect_ends(outcomes[0], 0, 3, stuck(reason + waits));
    expect_ends(outcomes[1], 1, 3, "1[FB][0-3]: " + reason + waits);
    expect_ends(outcomes[2], 2, 3, stuck(reason + waits));
  }
}

TEST(NcclTest, ATransferThatNcclRefusesEndsAllRanks) {
  Setting setting;
  setting.forward = [](int rank, int number) {
    if (rank != 1 || number != kWarm) return;
    note_trouble_once_awaited();
    fake::faults().transfer_result = ncclRemoteError;
  };
  const std::vector<Outcome> outcomes = run(setting);
  const std::string reason =
      std::string("1[FB][0-3]: [0-2][FB][0-3] (to|from) rank [02]: nccl(Send|Recv): ") +
      ncclGetErrorString(ncclRemoteError);
  expect_ends(outcomes[0], 0, 3, stuck(reason));
  expect_ends(outcomes[1], 1, 3, reason);
  expect_ends(outcomes[2], 2, 3, stuck(reason));
}

TEST(NcclTest, ARankThatThrowsEndsAllRanks) {
  Setting setting;
  setting.forward = [](int rank, int number) {
    if (rank != 1 || number != kWarm) return;
    note_trouble_once_awaited();
    throw Error("out of luck");
  };
  const std::vector<Outcome> outcomes = run(setting);
  expect_ends(outcomes[0], 0, 3, stuck("1F1: out of luck"));
  expect_ends(outcomes[1], 1, 3, "1F1: out of luck");
  expect_ends(outcomes[2], 2, 3, stuck("1F1: out of luck"));
}

TEST(NcclTest, ARankThatLeavesWithAnExceptionEndsAllRanks) {
  Setting setting;
  setting.between = [](int rank) {
    if (rank != 1) return;
    note_trouble_once_awaited();
    throw Error("rank 1: no more data");
  };
  const std::vector<Outcome> outcomes = run(setting);
  expect_ends(outcomes[0], 0, 3, stuck("an exception ended it"));
  expect_ends(outcomes[1], 1, 3, "no more data");
  expect_ends(outcomes[2], 2, 3, stuck("an exception ended it"));
}

TEST(NcclTest, ARankThatLeavesEarlyIsMissed) {
  for (const int leaver : {0, 1}) {
    Setting setting;
    setting.timeout = 3s;
    setting.leaver = leaver;
    const std::vector<Outcome> outcomes = run(setting);
    EXPECT_TRUE(outcomes[leaver].ended);
    EXPECT_EQ(outcomes[leaver].error, "");
    const std::string it = std::to_string(leaver);
    const std::string reason = it + "[FB][0-3] from rank " + it + " was not sent before that rank ended";
    // The ranks that are left cannot tell one another once rank 0 and its store are gone.
    const std::string other = leaver == 0 ? "nothing came for 1F0 from rank 1 within 3 s" : reason;
    expect_ends(outcomes[1 - leaver], 1 - leaver, 4, "[01][FB][0-3]: (rank [0-2] ended: )?" + reason + ".*");
    expect_ends(outcomes[2], 2, leaver == 0 ? 5 : 4, "2[FB][0-3]: (rank [0-2] ended: )?" + other + ".*");
  }
}

TEST(NcclTest, ARankThatLeavesDoesNotWaitForADeadOne) {
  const std::vector<Outcome> outcomes = fake::run_ranks(2, [](int rank, const fake::OpenStore& open_store) {
    const auto transport = make_nccl_transport(open_store, rank, 2, {.heartbeat_timeout = 1s});
    Wiring wiring;
    wiring.channels = {{0, 1, 1}};
    transport->connect(wiring);
    const auto send = [&](int m) { transport->send(1, {forward(0, m), {at::full({3}, 1.0, kGpu)}, {true}}); };
    if (rank == 1) transport->post_receive(0, 0, forward(0, 0));
    if (rank == 0)
      send(0);
    else
      transport->wait(0, 0);
    transport->flush();
    if (rank == 0) return send(1);
    std::this_thread::sleep_for(200ms);
    raise(SIGKILL);
  });
  EXPECT_TRUE(outcomes[0].ended);
  EXPECT_EQ(outcomes[0].whole.aborted, 1);
  EXPECT_EQ(outcomes[0].whole.destroyed, 0);
  EXPECT_STREQ(outcomes[0].whole.misuse, "");
}

TEST(NcclTest, AProcessThatIsKilledOrStoppedIsMissed) {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    Setting setting;
    setting.forward = [signal](int rank, int number) {
      if (rank != 1 || number != kWarm) return;
      note_trouble_once_awaited();
      raise(signal);
    };
    const std::vector<Outcome> outcomes = run(setting);
    EXPECT_FALSE(outcomes[1].ended);
    expect_ends(outcomes[0], 0, 4, stuck("its process gives no sign of life any more"));
    expect_ends(outcomes[2], 2, 4, stuck("its process gives no sign of life any more"));
  }
}

TEST(NcclTest, TheProcessThatHostsTheStoreIsMissed) {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    Setting setting;
    setting.forward = [signal](int rank, int number) {
      if (rank != 0 || number != kWarm) return;
      fake::note_trouble();
      raise(signal);
    };
    const std::vector<Outcome> outcomes = run(setting);
    for (const int rank : {1, 2})
      expect_ends(outcomes[rank], rank, 4,
                  "[12][FB][0-3]: rank 0 ended: the store that the ranks share does not answer any more.*");
  }
}

TEST(NcclTest, ATransferThatNeverEndsIsGivenUpAfterTheTimeLimit) {
  Setting setting;
  setting.timeout = 2s;
  setting.forward = [](int rank, int number) {
    if (rank != 1 || number != kWarm) return;
    fake::note_trouble();
    fake::faults().transfers_stall = true;
  };
  const std::vector<Outcome> outcomes = run(setting);
  for (const int rank : {0, 1, 2}) {
    EXPECT_GT(outcomes[rank].seconds, 1.9);
    expect_ends(outcomes[rank], rank, 5,
                "[0-2][FB][0-3]: (rank [0-2] ended: )?nothing came for [0-2][FB][0-3] from rank [0-2] within "
                "2 s.*");
  }
}

TEST(NcclTest, AnAbortFreesAThreadThatIsInsideNccl) {
  Setting setting;
  setting.forward = [](int rank, int number) {
    if (number != kWarm) return;
    if (rank == 0) fake::faults().calls_hang = true;
    if (rank != 1) return;
    note_trouble_once_awaited();
    throw Error("out of luck");
  };
  const std::vector<Outcome> outcomes = run(setting);
  expect_ends(outcomes[0], 0, 5, "0[FB][0-3]: rank 1 ended: 1F1: out of luck.*");
  expect_ends(outcomes[1], 1, 5, "1F1: out of luck");
  expect_ends(outcomes[2], 2, 5, stuck("1F1: out of luck"));
}

TEST(NcclTest, ACallThatNeverEndsIsGivenUpAfterTheTimeLimit) {
  for (const bool in_set_up : {true, false}) {
    Setting setting;
    setting.timeout = 1s;
    const auto hang = [](int) {  // all ranks, so that none can help another
      fake::note_trouble();
      fake::faults().calls_hang = true;
    };
    if (in_set_up)
      setting.before = hang;
    else
      setting.between = hang;
    const std::vector<Outcome> outcomes = run(setting);
    const std::string at = in_set_up ? "setting up" : "(before the first action|[0-2][FB][0-3])";
    for (const int rank : {0, 1, 2})
      expect_ends(outcomes[rank], rank, 6,
                  at + ": .*(a call of NCCL did not come to an end in time|within 1 s).*");
  }
}

TEST(NcclTest, ACommunicatorThatNeverComesIsGivenUpAfterTheTimeLimit) {
  Setting setting;
  setting.timeout = 2s;
  setting.before = [](int rank) {
    if (rank == 0) fake::note_trouble();
    if (rank == 1) fake::faults().init_hangs = true;
  };
  const std::vector<Outcome> outcomes = run(setting);
  for (const int rank : {0, 1, 2})
    expect_ends(outcomes[rank], rank, 6,
                "setting up: .*(ncclCommInitRankConfig of channel/0-1 did not come to an end|nothing came "
                "for counterflow/nccl/channel/1-2) within 2 s");
}

TEST(NcclTest, ACommunicatorThatCannotBeMadeEndsAllRanks) {
  Setting setting;
  setting.before = [](int rank) {
    if (rank == 0) fake::note_trouble();
    if (rank == 1) fake::faults().init_result = ncclSystemError;
  };
  const std::vector<Outcome> outcomes = run(setting);
  const std::string reason = "ncclCommInitRankConfig of channel/0-1: unhandled system error";
  expect_ends(outcomes[1], 1, 4, "setting up: " + reason);
  for (const int rank : {0, 2})
    expect_ends(outcomes[rank], rank, 4, "setting up: rank 1 ended: setting up: " + reason);
}

}  // namespace
}  // namespace counterflow::runtime
