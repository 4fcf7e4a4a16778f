#include "counterflow/profile_trace.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "counterflow/error.h"

namespace counterflow {
namespace {

constexpr Time kUs = 1000;

std::string small_trace() {
  std::ifstream file(COUNTERFLOW_TEST_DATA "/profile/overlap.json");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// From its events, by hand: compute from 100 to 430 us; communication 120-180, 300-400 and 420-480.
TEST(ProfileTraceTest, FindsStreamsAndWhatIsHidden) {
  const ProfileTrace trace = parse_profile_trace(small_trace());
  ASSERT_EQ(trace.streams.size(), 2U);
  for (const ProfileStream& one : trace.streams) {
    EXPECT_EQ(one.device, "0");
    EXPECT_EQ(one.kernels, 3);
    EXPECT_EQ(one.communicates, one.stream == "20");
    EXPECT_EQ(one.busy, (one.stream == "20" ? 220 : 330) * kUs);
  }
  EXPECT_EQ(trace.span, 380 * kUs);
  EXPECT_EQ(trace.compute_busy, 330 * kUs);
  EXPECT_EQ(trace.communication_busy, 220 * kUs);
  EXPECT_EQ(trace.communication_hidden, 170 * kUs);
  EXPECT_DOUBLE_EQ(trace.communication_hidden_ratio(), 170.0 / 220);
}

void expect_chunk(const ChunkProfile& found, std::int64_t count, Time compute, Time communication,
                  Time busy) {
  EXPECT_EQ(found.count, count);
  EXPECT_EQ(found.compute, compute * kUs);
  EXPECT_EQ(found.communication, communication * kUs);
  EXPECT_EQ(found.busy, busy * kUs);
}

TEST(ProfileTraceTest, RangesTellForwardFromBackward) {
  const ProfileTrace trace = parse_profile_trace(small_trace());
  expect_chunk(trace.forward, 1, 100, 160, 200);
  expect_chunk(trace.backward, 1, 150, 60, 210);
  expect_chunk(trace.weight_gradient, 1, 80, 0, 80);
  EXPECT_EQ(trace.pair, 380 * kUs);
  const CostModel costs = costs_of(trace);
  EXPECT_EQ(costs.stages, (std::vector<StageCost>{{.f = 200, .i = 210, .w = 80}}));
  EXPECT_EQ(costs.overlap, 380);
  EXPECT_EQ(parse_cost_model(format_cost_model(costs)), costs);
}

std::string range(const std::string& name, int begin, int end) {
  return R"({"ph":"X","cat":"user_annotation","name":")" + name + R"(","pid":1,"tid":1,"ts":)" +
         std::to_string(begin) + R"(,"dur":)" + std::to_string(end - begin) + "}";
}

/// A kernel from `begin` to `end` with its launch at `at` on a thread.
std::string kernel(const std::string& name, int thread, int at, int begin, int end) {
  static int correlation = 0;
  const std::string id = R"(,"args":{"correlation":)" + std::to_string(++correlation) + "}}";
  return R"({"ph":"X","cat":"kernel","name":")" + name + R"(","pid":0,"tid":7,"ts":)" +
         std::to_string(begin) + R"(,"dur":)" + std::to_string(end - begin) + id +
         R"(,{"ph":"X","cat":"cuda_runtime","name":"cudaLaunchKernel","pid":1,"tid":)" +
         std::to_string(thread) + R"(,"ts":)" + std::to_string(at) + R"(,"dur":1)" + id;
}

std::string events(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& one : all) text += (text.empty() ? "" : ",\n") + one;
  return "{\"traceEvents\": [" + text + "]}";
}

TEST(ProfileTraceTest, RangesOfActionsAreChunksEach) {
  const ProfileTrace trace = parse_profile_trace(
      events({range("PP:0F0", 0, 10), kernel("k", 1, 5, 10, 20), kernel("k", 1, 6, 20, 40),
              range("PP:0F1", 10, 20), kernel("k", 1, 15, 40, 50),  //
              range("0B0", 20, 30), kernel("k", 1, 25, 50, 90),     //
              range("(0F2;0B1)OVERLAP_F_B", 30, 40), kernel("k", 1, 31, 100, 120),
              kernel("k", 1, 32, 130, 160), range("PP:0RECV_F3", 40, 50), kernel("k", 1, 45, 160, 200)}));
  expect_chunk(trace.forward, 2, 20, 0, 20);
  expect_chunk(trace.backward, 1, 40, 0, 40);
  EXPECT_EQ(trace.weight_gradient.count, 0);
  EXPECT_EQ(trace.pair, 60 * kUs);
  const CostModel costs = costs_of(trace);
  EXPECT_EQ(costs.stages, (std::vector<StageCost>{{.f = 20, .i = 20, .w = 20}}));
}

TEST(ProfileTraceTest, WithoutRangesAutogradsThreadTellsThem) {
  const std::string backward =
      R"({"ph":"X","cat":"cpu_op","name":"autograd::engine::evaluate_function: MmBackward0","pid":1,"tid":2,"ts":40,"dur":9})";
  const ProfileTrace trace = parse_profile_trace(events(
      {range("ProfilerStep#3", 0, 100), range("Optimizer.step#AdamW.step", 80, 90), backward,
       kernel("k", 1, 5, 10, 30), kernel("k", 2, 45, 50, 90), kernel("adam", 1, 85, 90, 95),
       range("ProfilerStep#4", 100, 200), kernel("k", 1, 105, 110, 140), kernel("k", 2, 145, 150, 200)}));
  expect_chunk(trace.forward, 2, 25, 0, 25);
  expect_chunk(trace.backward, 2, 45, 0, 45);
  EXPECT_EQ(trace.pair, std::nullopt);
}

TEST(ProfileTraceTest, ABareListAndFractionsOfMicrosecondsAreRead) {
  const ProfileTrace trace = parse_profile_trace(
      R"([{"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":1740461679471346.125,"dur":0.75},
          {"ph":"X","cat":"gpu_memcpy","name":"Memcpy DtoD","pid":0,"tid":7,"ts":1740461679471348.001,"dur":1e1}])");
  EXPECT_EQ(trace.span, 1875 + 10 * kUs + 1);
  EXPECT_EQ(trace.compute_busy, 750 + 10 * kUs);
  EXPECT_EQ(trace.communication_hidden_ratio(), 0);
}

TEST(ProfileTraceTest, DevicesDoNotHideOneAnothersCommunication) {
  const auto one = [](int device, const char* name, int stream, int begin, int end) {
    return R"({"ph":"X","cat":"kernel","name":")" + std::string(name) + R"(","pid":)" +
           std::to_string(device) + R"(,"tid":)" + std::to_string(stream) + R"(,"ts":)" +
           std::to_string(begin) + R"(,"dur":)" + std::to_string(end - begin) + "}";
  };
  const ProfileTrace trace = parse_profile_trace(events(
      {one(0, "gemm", 7, 0, 100), one(1, "ncclDevKernel_SendRecv", 9, 0, 100), one(1, "gemm", 7, 90, 100)}));
  EXPECT_EQ(trace.communication_busy, 100 * kUs);
  EXPECT_EQ(trace.communication_hidden, 10 * kUs);
  EXPECT_EQ(trace.compute_busy, 110 * kUs);
}

void expect_error(const std::string& json, const std::string& message) {
  try {
    parse_profile_trace(json, "trace.json");
    ADD_FAILURE() << "read: " << json.substr(0, 200);
  } catch (const ParseError& error) {
    EXPECT_EQ(std::string(error.what()).find("trace.json:"), 0U) << error.what();
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
  }
}

TEST(ProfileTraceTest, HostileInputGetsAnError) {
  expect_error("", "unexpected end of input");
  expect_error("\x1f\x8b\x08", "gunzip it first");
  expect_error("7", "expected a Chrome trace");
  expect_error("{}", "expected a Chrome trace");
  expect_error(R"({"traceEvents": {}})", "expected a Chrome trace");
  expect_error("[]", "expected kernels of a GPU");
  expect_error(events({range("0F0", 0, 1)}), "expected kernels of a GPU");
  expect_error(events({R"({"ph":"X","cat":"kernel","name":"k","dur":1})"}), "a time ts and a duration dur");
  for (const char* times :
       {R"("ts":0,"dur":-1)", R"("ts":1e300,"dur":1)", R"("ts":9000000000000000000,"dur":1)",
        R"("ts":0,"dur":1e17)", R"("ts":"0","dur":1)"})
    expect_error(events({R"({"ph":"X","cat":"kernel","name":"k",)" + std::string(times) + "}"}), "a time ts");
  expect_error(events({R"({"ph":"X","cat":"kernel","ts":0,"dur":1})",
                       R"({"ph":"X","cat":"kernel","ts":4e15,"dur":1})"}),
               "at most 13 days");
  expect_error(std::string(1 << 20, '['), "unexpected end of input");
}

TEST(ProfileTraceTest, AnyCutIsAnError) {
  const std::string good = small_trace();
  for (std::size_t size = 0; size + 2 < good.size(); size += 7)
    EXPECT_THROW(parse_profile_trace(good.substr(0, size)), ParseError) << size;
}

TEST(ProfileTraceTest, AnyChangedByteIsAnErrorOrReadsWell) {
  const std::string good = small_trace();
  for (std::size_t at = 0; at < good.size(); at += 3) {
    for (const char c : {'9', '"', '{', '-'}) {
      std::string changed = good;
      changed[at] = c;
      try {
        parse_profile_trace(changed);
      } catch (const ParseError&) {
      }
    }
  }
}

TEST(ProfileTraceTest, CostsNeedForwardAndBackward) {
  const ProfileTrace trace = parse_profile_trace(events({kernel("k", 1, 0, 1, 2)}));
  EXPECT_THROW(costs_of(trace), InvalidConfig);
}

}  // namespace
}  // namespace counterflow
