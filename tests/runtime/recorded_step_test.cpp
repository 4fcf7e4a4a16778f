#include "recorded_step.h"

#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

using Seeds = std::vector<std::uint64_t>;

/// Records nothing; says which scopes drew, and notes which seeds come.
class FakeRecorder : public StepRecorder {
 public:
  void run(const std::function<void()>& body) override { body(); }
  void record(const std::function<void()>& body) override {
    ++recorded;
    body();
  }
  const Seeds& seeds() const override { return drew; }
  void replay(const Seeds& seeds) override { replayed.push_back(seeds); }

  int recorded = 0;
  Seeds drew;
  std::vector<Seeds> replayed;
};

StepResult nothing(const Batch&) {
  return {};
}

TEST(RecordedStepTest, EachReplayDrawsAsItsOwnStepDoes) {
  FakeRecorder recorder;
  RecordedStep step(recorder, {}, [] {});
  step.run({}, {10, 11, 12}, nothing);
  EXPECT_TRUE(recorder.replayed.empty());  // the first one runs as it is
  recorder.drew = {21, 22, 21};            // two passes in the schedule's order, the first is recomputed
  step.run({}, {20, 21, 22}, nothing);
  step.run({}, {30, 31, 32}, nothing);
  EXPECT_EQ(recorder.replayed, (std::vector<Seeds>{{21, 22, 21}, {31, 32, 31}}));
}

TEST(RecordedStepTest, AStagesOwnSeedStays) {
  FakeRecorder recorder;
  RecordedStep step(recorder, {}, [] {});
  step.run({}, {10}, nothing);
  recorder.drew = {20, 99};
  step.run({}, {20}, nothing);
  step.run({}, {30}, nothing);
  EXPECT_EQ(recorder.replayed.back(), (Seeds{30, 99}));
}

TEST(RecordedStepTest, RefusesABatchOfAnotherShape) {
  FakeRecorder recorder;
  RecordedStep step(recorder, {}, [] {});
  const auto batch = [](std::int64_t rows) { return Batch{{{at::full({rows, 2}, 1.0)}}, {}, {1.0}}; };
  step.run(batch(3), {}, nothing);
  step.run(batch(3), {}, nothing);
  EXPECT_THROW(step.run(batch(4), {}, nothing), InvalidConfig);
}

TEST(RecordedStepTest, IsRecordedAgainWhereAsked) {
  FakeRecorder recorder;
  std::vector<std::size_t> replayed;  // when the ranks met
  RecordedStep step(recorder, {}, [&] { replayed.push_back(recorder.replayed.size()); });
  const Batch batch{{{at::full({3, 2}, 1.0)}}, {}, {1.0}};
  for (int i = 0; i < 3; ++i) step.run(batch, {}, nothing);
  EXPECT_EQ(recorder.recorded, 1);
  step.record_again();
  for (int i = 0; i < 2; ++i) step.run(batch, {}, nothing);
  EXPECT_EQ(recorder.recorded, 2);
  EXPECT_EQ(recorder.replayed.size(), 4U);
  EXPECT_EQ(replayed, (std::vector<std::size_t>{0, 2}));
}

}  // namespace
}  // namespace counterflow::runtime
