// What the library says while it runs: nothing, unless it is asked to.
#include "counterflow/runtime/log.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "counterflow/generate.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pipeline.h"

namespace counterflow::runtime {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// What two ranks write to standard error in a step that goes well and one that fails on rank 1.
std::string written(LogLevel level) {
  set_log_level(level);
  testing::internal::CaptureStderr();
  run_local(2, [](Transport& transport) {
    bool fails = false;
    Pipeline pipeline(generate("1f1b", {2, 4}), transport,
                      [&](int stage) {
                        return make_stage(
                            [&fails, stage](const Tensors& x) {
                              if (fails && stage == 1) throw std::runtime_error("out of luck");
                              return Tensors{x[0] * at::ones({2, 3}).requires_grad_()};
                            },
                            nullptr);
                      },
                      {.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); }});
    const Batch batch{
        std::vector<Tensors>(4, {at::ones({2, 3})}), std::vector<Tensors>(4, {at::ones({2, 3})}), {}};
    pipeline.step(batch);
    fails = true;
    EXPECT_THROW(pipeline.step(batch), StepFailed);
  });
  set_log_level(LogLevel::kWarn);
  return testing::internal::GetCapturedStderr();
}

TEST(LogTest, IsQuietByDefault) {
  EXPECT_TRUE(log_enabled(LogLevel::kWarn));
  EXPECT_FALSE(log_enabled(LogLevel::kInfo));
  EXPECT_THAT(written(LogLevel::kWarn), IsEmpty());
}

TEST(LogTest, OneLineAnEventWithTheRankInFront) {
  EXPECT_THAT(written(LogLevel::kInfo),
              AllOf(ContainsRegex("info rank 0: 1f1b, 2 ranks, 4 micro-batches: holds stages 0\n"),
                    ContainsRegex("info rank 1: 1f1b, 2 ranks, 4 micro-batches: holds stages 1\n"),
                    ContainsRegex("info rank 1: 1F0: out of luck\n"),
                    ContainsRegex("info rank 0: 0[FB].*rank 1.*ended: 1F0: out of luck\n"),
                    Not(HasSubstr("step 0"))));
  EXPECT_THAT(written(LogLevel::kDebug), ContainsRegex("debug rank 1: step 0: [0-9.]+ s\n"));
}

}  // namespace
}  // namespace counterflow::runtime
