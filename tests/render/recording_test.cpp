#include "counterflow/recording.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/render.h"
#include "support/timelines.h"

namespace counterflow {
namespace {

using testing::for_each_timeline;
using testing::timeline_of;

/// A plan as if a run had done just that.
Timeline as_recorded(Timeline plan) {
  plan.unit_ns = 1000;
  return plan;
}

void expect_same(const Timeline& found, const Timeline& expected) {
  EXPECT_EQ(found.name, expected.name);
  EXPECT_EQ(found.placement, expected.placement);
  EXPECT_EQ(found.passes, expected.passes);
  EXPECT_EQ(found.unit_ns, expected.unit_ns);
  ASSERT_EQ(found.ranks.size(), expected.ranks.size());
  for (std::size_t rank = 0; rank < found.ranks.size(); ++rank) {
    EXPECT_EQ(found.ranks[rank].bars, expected.ranks[rank].bars);
    EXPECT_EQ(found.ranks[rank].activations, expected.ranks[rank].activations);
  }
  ASSERT_EQ(found.links.size(), expected.links.size());
  for (std::size_t link = 0; link < found.links.size(); ++link) {
    EXPECT_EQ(found.links[link].from, expected.links[link].from);
    EXPECT_EQ(found.links[link].to, expected.links[link].to);
    EXPECT_EQ(found.links[link].transfers, expected.links[link].transfers);
  }
}

/// Of a plan: from 0 to the end, each bar beginning when what it waited for was there.
void expect_path_fits(const Timeline& timeline) {
  const auto bar = [&](const BarId& id) { return timeline.ranks[id.rank].bars[id.bar]; };
  ASSERT_FALSE(timeline.critical_path.empty());
  EXPECT_EQ(bar(timeline.critical_path.front()).begin, 0);
  EXPECT_EQ(bar(timeline.critical_path.back()).end, timeline.end());
  for (std::size_t i = 1; i < timeline.critical_path.size(); ++i) {
    const BarId& before = timeline.critical_path[i - 1];
    const Time gap = bar(timeline.critical_path[i]).begin - bar(before).end;
    EXPECT_TRUE(gap == 0 || (gap == 2 && before.rank != timeline.critical_path[i].rank)) << gap;
  }
}

TEST(RecordingTest, ComesBackAsItWasWritten) {
  for_each_timeline([](const Timeline& plan) {
    const Timeline recorded = as_recorded(plan);
    const Timeline found = parse_recording(format_recording(recorded));
    expect_same(found, recorded);
    expect_path_fits(found);
  });
}

TEST(RecordingTest, IsWrittenAsTheReadmeSays) {
  const Timeline recorded = as_recorded(timeline_of("gpipe", {2, 1}, "f=1,i=1,w=1", 3));
  EXPECT_EQ(format_recording(recorded), R"({
  "counterflow_recording": 1,
  "unit_ns": 1000,
  "schedule": "# counterflow schedule v1\n# name: gpipe\n# ranks: 2\n# stages: 2\n# micro-batches: 1\n# direction: micro-batches 0 on ranks 0-1\n0F0,0B0\n1F0,1B0\n",
  "ranks": [
    {"begin": [0,10], "end": [1,12]},
    {"begin": [4,5], "end": [5,7]}
  ],
  "messages": [
    {"from": 0, "to": 1, "passes": "0F0", "sent": [1], "arrived": [4]},
    {"from": 1, "to": 0, "passes": "1B0", "sent": [7], "arrived": [10]}
  ]
}
)");
}

TEST(RecordingTest, AnOrderAndASplitThatThePlanDoesNotHaveAreKept) {
  Timeline recorded = as_recorded(timeline_of("1f1b", {2, 2}));
  auto& bars = recorded.ranks[1].bars;  // 1F0 1B0 1F1 1B1
  bars[1].action = input_gradient(1, 0);
  bars.insert(bars.begin() + 2, {weight_gradient(1, 0), bars[1].end, bars[1].end});
  recorded.links[1].transfers[0].pass.kind = PassKind::kInputGradient;
  connect(recorded);
  const Timeline found = parse_recording(format_recording(recorded));
  expect_same(found, recorded);
  EXPECT_EQ(found.links[1].transfers[0].sender, 1);
  EXPECT_EQ(found.ranks[0].bars[found.links[1].transfers[0].receiver].action, Action(backward(0, 0)));
}

TEST(RecordingTest, AStepThatFailedIsReadAsFarAsItCame) {
  Timeline recorded = as_recorded(timeline_of("1f1b", {2, 4}));
  for (RankTimeline& rank : recorded.ranks) rank.bars.erase(rank.bars.begin() + 1, rank.bars.end());
  const Timeline found = parse_recording(format_recording(recorded));
  EXPECT_EQ(found.ranks[0].bars.size(), 1U);
  EXPECT_EQ(found.links[1].transfers[0].sender, -1);
  EXPECT_EQ(draw_html({&found, 1}).find("NaN"), std::string::npos);
}

TEST(RecordingTest, RefusesToWriteWhatNoFileCanHold) {
  const Timeline plan = timeline_of("1f1b", {2, 4});
  EXPECT_THROW(format_recording(plan), InvalidConfig);  // no unit
  Timeline overlapping = as_recorded(plan);
  overlapping.ranks[0].bars[1].begin = 0;
  EXPECT_THROW(format_recording(overlapping), InvalidConfig);
  Timeline elsewhere = as_recorded(plan);
  std::swap(elsewhere.ranks[0], elsewhere.ranks[1]);
  EXPECT_THROW(format_recording(elsewhere), InvalidConfig);
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

TEST(RecordingTest, ErrorsSayWhatWasExpected) {
  const std::string good = format_recording(as_recorded(timeline_of("gpipe", {2, 1})));
  struct Case {
    const char* what;
    const char* by;
    const char* error;
  };
  const Case cases[] = {
      {"\"unit_ns\": 1000", "\"unit_ns\": 0", "unit_ns: expected a whole number from 1"},
      {"\"counterflow_recording\": 1", "\"counterflow_recording\": 2", "expected a whole number from 1 to 1"},
      {"\"unit_ns\"", "\"unit\"", "expected a recording with counterflow_recording, unit_ns"},
      {"0F0,0B0", "0F0,0X0", "file: schedule:7:"},
      {"\"ranks\": [\n", "\"ranks\": [{},", "ranks: expected 2, as the schedule has, found 3"},
      {"\"begin\": [0,", "\"begin\": [", "begin: expected 2 times, one for each action, found 1"},
      {"\"begin\": [0,", "\"begin\": [7,",
       "0F0: expected a begin from the end of the action before it on (0)"},
      {"\"begin\": [0,", "\"begin\": [-1,", "expected a whole number from 0"},
      {"\"begin\": [0,", "\"begin\": [0.5,", "expected a whole number from 0"},
      {"0F0,0B0", "1F0,0B0", "expected actions of this rank, found 1F0 of rank 1"},
      {"0F0,0B0", "0F7,0B0", "expected stages and micro-batches of the placement, found 0F7"},
      {"\"passes\": \"0F0\"", "\"passes\": \"0F9\"", "whose results go from rank 0 to rank 1, found 0F9"},
      {"\"passes\": \"0F0\"", "\"passes\": \"0B0\"", "whose results go from rank 0 to rank 1, found 0B0"},
      {"\"passes\": \"0F0\"", "\"passes\": \"(0F0;0B0)OVERLAP_F_B\"", "expected a pass"},
      {"\"from\": 0", "\"from\": 2", "from: expected a whole number from 0 to 1"},
      {"\"sent\": [1]", "\"sent\": [9]", "0F0: expected an arrival after the sending"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.by);
    try {
      parse_recording(replaced(good, one.what, one.by), "file");
      ADD_FAILURE() << "read";
    } catch (const ParseError& error) {
      EXPECT_NE(std::string(error.what()).find(one.error), std::string::npos) << error.what();
    }
  }
}

TEST(RecordingTest, AnyCutOrChangedByteIsAnErrorOrReadsWell) {
  const std::string good = format_recording(as_recorded(timeline_of("dualpipe", {2, 4})));
  for (std::size_t size = 0; size + 2 < good.size(); ++size)
    EXPECT_THROW(parse_recording(good.substr(0, size)), ParseError) << size;
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const char c : {'9', '"', '\\', ','}) {
      std::string changed = good;
      changed[at] = c;
      try {
        parse_recording(changed);
      } catch (const ParseError&) {
      }
    }
  }
}

TEST(RecordingTest, IsToldFromOtherJson) {
  EXPECT_TRUE(is_recording(format_recording(as_recorded(timeline_of("gpipe", {2, 1})))));
  EXPECT_TRUE(is_recording(" {\"counterflow_recording\": 7"));
  EXPECT_FALSE(is_recording("{\"traceEvents\": []}"));
  EXPECT_FALSE(is_recording(""));
}

}  // namespace
}  // namespace counterflow
