// What a process may do with transports between GPUs beside training on one: another pipeline, another
// transport, leaving early.
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <torch/nn/module.h>

#include <filesystem>
#include <iterator>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "counterflow/generate.h"
#include "counterflow/runtime/copy_engines.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/gpu.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pipeline.h"
#include "fake_peers.h"
#include "ranks.h"

namespace counterflow::runtime {
namespace {

using namespace std::chrono_literals;
using fake::OpenStore;
using fake::Outcome;

const at::Device kGpu(at::kCUDA, 0);

/// Multiplies by a parameter.
struct Factor : torch::nn::Module {
  Factor() : factor(register_parameter("factor", at::full({3}, 2.0, kGpu))) {}
  at::Tensor factor;
};

Pipeline make_pipeline(std::string_view generator, Transport& transport) {
  return {generate(generator, {2, 4}),
          transport,
          [](int) {
            const auto module = std::make_shared<Factor>();
            return make_stage([module](const Tensors& x) { return Tensors{x.at(0) * module->factor}; },
                              module);
          },
          {.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); }, .timeout = 20s}};
}

Batch batch(int rows) {
  Batch all;
  for (int m = 0; m < 4; ++m) {
    all.inputs.push_back({at::full({rows, 3}, m + 1.0, kGpu)});
    all.targets.push_back({at::full({1}, 0.0, kGpu)});
  }
  return all;
}

std::unique_ptr<Transport> make_transport(GpuLink link, const OpenStore& open_store, int rank) {
  return make_gpu_transport(open_store, rank, 2, {.link = link, .slot_bytes = 16});
}

void expect_well(const std::vector<Outcome>& outcomes) {
  for (const Outcome& outcome : outcomes) {
    EXPECT_TRUE(outcome.ended);
    EXPECT_EQ(outcome.error, "");
    EXPECT_STREQ(outcome.whole.misuse, "");
  }
}

/// A rank that takes its time to look at what another rank shows of its lines.
struct SlowStore : c10d::PrefixStore {
  SlowStore(bool is_slow, const c10::intrusive_ptr<c10d::Store>& store)
      : PrefixStore("slow", store), is_slow_(is_slow) {}

  std::vector<std::uint8_t> get(const std::string& key) override {
    auto value = PrefixStore::get(key);
    if (is_slow_ && key.find("/copy/") != std::string::npos) std::this_thread::sleep_for(700ms);
    return value;
  }

 private:
  const bool is_slow_;
};

OpenStore slow_if(bool is_slow, const OpenStore& open_store) {
  return [=] { return c10::make_intrusive<SlowStore>(is_slow, open_store()); };
}

TEST(CopyLifeTest, ARankMayLeaveBeforeAnotherIsConnected) {
  for (const int slow : {0, 1})
    for (const int from : {0, 1})
      expect_well(fake::run_ranks(2, [&](int rank, const OpenStore& open_store) {
        const auto transport =
            make_copy_engine_transport(slow_if(rank == slow, open_store), rank, 2, {.slot_bytes = 16});
        Wiring wiring;
        wiring.channels = {{from, 1 - from, 1}};
        transport->connect(wiring);
      }));
}

TEST(CopyLifeTest, ARankThatCannotReachAnothersMemoryIsTheReasonOnAll) {
  const std::vector<Outcome> outcomes = fake::run_ranks(2, [](int rank, const OpenStore& open_store) {
    fake::peer_faults().no_opening = rank == 1;
    fake::note_trouble();
    const auto transport =
        make_copy_engine_transport(slow_if(rank == 0, open_store), rank, 2, {.slot_bytes = 16});
    make_pipeline("1f1b", *transport);
  });
  fake::expect_ends(outcomes[0], 0, 5, "setting up: rank 1 ended: setting up: cudaIpcOpenMemHandle: .*");
  fake::expect_ends(outcomes[1], 1, 5, "setting up: cudaIpcOpenMemHandle: .*");
}

class GpuLifeTest : public testing::TestWithParam<GpuLink> {};

TEST_P(GpuLifeTest, APipelineTakesOverTheTransportOfAnEarlierOne) {
  const std::vector<Outcome> outcomes = fake::run_ranks(2, [](int rank, const OpenStore& open_store) {
    const auto transport = make_transport(GetParam(), open_store, rank);
    for (int i = 0; i < 3; ++i) {
      Pipeline pipeline = make_pipeline(i == 1 ? "dualpipe" : "1f1b", *transport);
      for (int step = 0; step < 3; ++step) {
        for (const at::Tensor& parameter : pipeline.parameters()) parameter.mutable_grad() = at::Tensor();
        pipeline.step(batch(i + 1));
        for (const at::Tensor& parameter : pipeline.parameters()) fake::leave(parameter.grad());
      }
    }
  });
  expect_well(outcomes);
  std::vector<double> gradients(9, 5);  // of a stage's three numbers in three steps
  gradients.insert(gradients.end(), 18, 10);
  gradients.insert(gradients.end(), 9, 15);
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.numbers, gradients);
}

std::ptrdiff_t num_files() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

TEST_P(GpuLifeTest, TransportsOneAfterAnotherLeaveNoFilesOpen) {
  expect_well(fake::run_ranks(2, [](int rank, const OpenStore& open_store) {
    std::ptrdiff_t first = 0;
    for (int i = 0; i < 3; ++i) {
      {
        const auto transport = make_transport(
            GetParam(),
            [&] { return c10::make_intrusive<c10d::PrefixStore>(std::to_string(i), open_store()); }, rank);
        Pipeline pipeline = make_pipeline("dualpipe", *transport);
        for (int step = 0; step < 2; ++step) pipeline.step(batch(1));
      }
      if (rank == 0) continue;  // its process serves the store
      const std::ptrdiff_t files = num_files();
      if (i == 0) first = files;
      if (files != first) throw Error(std::to_string(first) + " files, then " + std::to_string(files));
    }
  }));
}

/// None has room for its stack.
void have_no_more_threads() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, std::size_t{1} << 46);
  if (pthread_setattr_default_np(&attributes) != 0) throw Error("threads can be had");
  pthread_attr_destroy(&attributes);
}

TEST_P(GpuLifeTest, TrainsWhereNoMoreThreadsCanBeHad) {
  expect_well(fake::run_ranks(2, [](int rank, const OpenStore& open_store) {
    const auto transport = make_transport(GetParam(), open_store, rank);
    Pipeline pipeline = make_pipeline("1f1b", *transport);
    for (int step = 0; step < 4; ++step) {
      if (step == 2) have_no_more_threads();
      pipeline.step(batch(1));
      if (step == 2) std::this_thread::sleep_for(1s);
    }
  }));
}

TEST(CopyLifeTest, ARankIsMissedWhereNoMoreThreadsCanBeHad) {
  const std::vector<Outcome> outcomes = fake::run_ranks(2, [](int rank, const OpenStore& open_store) {
    const auto transport = make_transport(GpuLink::kCopyEngines, open_store, rank);
    Pipeline pipeline = make_pipeline("1f1b", *transport);
    for (int step = 0; step < 4; ++step) {
      if (step == 2 && rank == 0) have_no_more_threads();
      if (step == 2 && rank == 1) {
        fake::note_trouble();
        throw Error("rank 1: out of luck");
      }
      pipeline.step(batch(1));
    }
  });
  fake::expect_ends(outcomes[0], 0, 10, ".*rank 1 ended: an exception ended it");
}

TEST_P(GpuLifeTest, TwoTransportsTakeTurns) {
  expect_well(fake::run_ranks(2, [](int rank, const OpenStore& open_store) {
    const auto open = [&](const char* prefix) {
      return [&, prefix] { return c10::make_intrusive<c10d::PrefixStore>(prefix, open_store()); };
    };
    const auto one = make_transport(GetParam(), open("one"), rank);
    const auto other = make_transport(GetParam(), open("other"), rank);
    Pipeline first = make_pipeline("dualpipe", *one);
    Pipeline second = make_pipeline("1f1b", *other);
    for (int step = 0; step < 4; ++step) {
      first.step(batch(1));
      second.step(batch(2));
    }
  }));
}

INSTANTIATE_TEST_SUITE_P(Links, GpuLifeTest, testing::Values(GpuLink::kCopyEngines, GpuLink::kNccl));

}  // namespace
}  // namespace counterflow::runtime
