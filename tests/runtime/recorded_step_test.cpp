#include "recorded_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/runtime/module.h"
#include "fake_recorder.h"
#include "faulty_transport.h"

namespace counterflow::runtime {
namespace {

using Seeds = FakeRecorder::Seeds;

void nothing_more() {}

StepResult nothing(const Batch&) {
  return {};
}

TEST(RecordedStepTest, EachReplayDrawsAsItsOwnStepDoes) {
  FakeRecorder recorder;
  RecordedStep step(recorder, {}, nothing_more, nothing_more);
  step.run({}, {10, 11, 12}, nothing);
  EXPECT_TRUE(recorder.replayed.empty());  // the first one runs as it is
  recorder.drew = {21, 22, 21};            // two passes in the schedule's order, the first is recomputed
  step.run({}, {20, 21, 22}, nothing);
  step.run({}, {30, 31, 32}, nothing);
  EXPECT_EQ(recorder.replayed, (std::vector<Seeds>{{21, 22, 21}, {31, 32, 31}}));
}

TEST(RecordedStepTest, AStagesOwnSeedStays) {
  FakeRecorder recorder;
  RecordedStep step(recorder, {}, nothing_more, nothing_more);
  step.run({}, {10}, nothing);
  recorder.drew = {20, 99};
  step.run({}, {20}, nothing);
  step.run({}, {30}, nothing);
  EXPECT_EQ(recorder.replayed.back(), (Seeds{30, 99}));
}

TEST(RecordedStepTest, RefusesABatchOfAnotherShape) {
  FakeRecorder recorder;
  RecordedStep step(recorder, {}, nothing_more, nothing_more);
  const auto batch = [](std::int64_t rows) { return Batch{{{at::full({rows, 2}, 1.0)}}, {}, {1.0}}; };
  step.run(batch(3), {}, nothing);
  step.run(batch(3), {}, nothing);
  EXPECT_THROW(step.run(batch(4), {}, nothing), InvalidConfig);
}

TEST(RecordedStepTest, IsRecordedAgainWhereAsked) {
  FakeRecorder recorder;
  std::vector<std::pair<int, std::size_t>> met;  // what there had been when the ranks met
  RecordedStep step(
      recorder, {}, [&] { met.emplace_back(recorder.recorded, recorder.replayed.size()); }, nothing_more);
  const Batch batch{{{at::full({3, 2}, 1.0)}}, {}, {1.0}};
  for (int i = 0; i < 3; ++i) step.run(batch, {}, nothing);
  EXPECT_EQ(recorder.recorded, 1);
  step.record_again();
  for (int i = 0; i < 2; ++i) step.run(batch, {}, nothing);
  EXPECT_EQ(recorder.recorded, 2);
  EXPECT_EQ(recorder.replayed.size(), 4U);
  EXPECT_EQ(met, (std::vector<std::pair<int, std::size_t>>{{0, 0}, {1, 0}, {1, 2}, {2, 2}}));
}

/// A step of two parameters that leaves the first one a gradient; the second one has no part in it.
struct Trained {
  at::Tensor first = at::zeros({2}).requires_grad_();
  at::Tensor second = at::zeros({2}).requires_grad_();

  RecordedStep::Body body() const {
    return [first = first](const Batch&) {
      first.mutable_grad() = at::full({2}, 1.0);
      return StepResult{};
    };
  }
};

TEST(RecordedStepTest, AddsToTheGradientsThatThereAre) {
  FakeRecorder recorder;
  const Trained trained;
  RecordedStep step(recorder, {trained.first, trained.second}, nothing_more, nothing_more);
  trained.second.mutable_grad() = at::full({2}, 7.0);
  for (int i = 1; i <= 4; ++i) {
    step.run({}, {}, trained.body());
    EXPECT_TRUE(trained.first.grad().equal(at::full({2}, static_cast<double>(i)))) << i;
    EXPECT_TRUE(trained.second.grad().equal(at::full({2}, 7.0))) << i;
  }
  trained.first.mutable_grad() = at::Tensor();
  for (int i = 1; i <= 2; ++i) {
    step.run({}, {}, trained.body());
    EXPECT_TRUE(trained.first.grad().equal(at::full({2}, static_cast<double>(i)))) << i;
  }
}

TEST(RecordedStepTest, RefusesAParameterThatHasMoved) {
  FakeRecorder recorder;
  const Trained trained;
  RecordedStep step(recorder, {trained.first}, nothing_more, nothing_more);
  for (int i = 0; i < 3; ++i) step.run({}, {}, trained.body());
  {
    const c10::AutoGradMode no_grad(false);
    trained.first.copy_(at::full({2}, 3.0));
  }
  EXPECT_NO_THROW(step.run({}, {}, trained.body()));
  trained.first.set_data(at::full({2}, 4.0));
  EXPECT_THROW(step.run({}, {}, trained.body()), InvalidConfig);
}

TEST(RecordedStepTest, RefusesABatchOfTheHostForParametersOfADevice) {
  FakeRecorder recorder;
  RecordedStep step(recorder, {at::zeros({2}, at::kMeta)}, nothing_more, nothing_more);
  const Batch batch{{{at::full({3, 2}, 1.0)}}, {}, {1.0}};
  step.run(batch, {}, nothing);
  EXPECT_THROW(step.run(batch, {}, nothing), InvalidConfig);
}

/// Counts the steps that are begun.
class RecordableTransport : public FaultyTransport {
 public:
  explicit RecordableTransport(Transport& inner) : FaultyTransport(inner, {}) {}
  bool can_be_recorded() const override { return true; }
  void begin_step(bool) override { ++begun; }
  int begun = 0;
};

/// Of two ranks.
Pipeline make_pipeline(Transport& transport, std::shared_ptr<StepRecorder> recorder) {
  return {generate("1f1b", {2, 4}),
          transport,
          [](int) {
            const at::Tensor factor = at::full({}, 2.0).requires_grad_();
            return make_stage([factor](const Tensors& x) { return Tensors{x.at(0) * factor}; }, nullptr);
          },
          {.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); },
           .recorder = std::move(recorder),
           .timeout = std::chrono::seconds(20)}};
}

TEST(RecordedStepTest, TheTransportHearsOfEachReplay) {
  run_local(2, [](Transport& local) {
    RecordableTransport transport(local);
    const auto recorder = std::make_shared<FakeRecorder>();
    const Batch batch{
        std::vector<Tensors>(4, {at::full({3}, 1.0)}), std::vector<Tensors>(4, {at::zeros({})}), {}};
    Pipeline pipeline = make_pipeline(transport, recorder);
    for (int step = 0; step < 5; ++step) {
      const int before = transport.begun;
      pipeline.step(batch);
      EXPECT_GT(transport.begun, before);
    }
    EXPECT_EQ(recorder->recorded, 1);  // no other number of streams is tried by threads
    EXPECT_EQ(recorder->replayed.size(), 4U);
  });
}

TEST(RecordedStepTest, WhatWasRecordedGoesWithThePipeline) {
  run_local(2, [](Transport& local) {
    RecordableTransport transport(local);
    const auto recorder = std::make_shared<FakeRecorder>();
    {
      const Pipeline pipeline = make_pipeline(transport, recorder);
      EXPECT_EQ(recorder->forgotten, 0);
    }
    EXPECT_EQ(recorder->forgotten, 1);
  });
}

TEST(RecordedStepTest, AllRanksRecordOrNone) {
  run_local(2, [](Transport& local) {
    RecordableTransport transport(local);
    try {
      make_pipeline(transport, local.rank() == 0 ? std::make_shared<FakeRecorder>() : nullptr);
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("or records its steps"));
    }
  });
}

}  // namespace
}  // namespace counterflow::runtime
