#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "counterflow/render.h"
#include "render/golden.h"
#include "render/protobuf_reader.h"
#include "support/timelines.h"

namespace counterflow {
namespace {

using testing::for_each_timeline;
using testing::timeline_of;

// What a trace says, whichever its format: on a track by name, what from when to when (ns).
using Slice = std::tuple<std::string, std::string, std::int64_t, std::int64_t>;
using Sample = std::tuple<std::string, std::int64_t, std::int64_t>;
using Arrow = std::pair<Slice, Slice>;

struct Trace {
  std::vector<Slice> slices;
  std::vector<Sample> samples;
  std::vector<Arrow> arrows;

  void sort() {
    std::sort(slices.begin(), slices.end());
    std::sort(samples.begin(), samples.end());
    std::sort(arrows.begin(), arrows.end());
  }
};

constexpr std::int64_t kMicrosecond = 1000;

Slice slice_of(const Timeline& timeline, std::int32_t rank, std::int32_t index) {
  const Bar& bar = timeline.ranks[rank].bars.at(index);
  return {"rank " + std::to_string(rank), to_string(bar.action), bar.begin * kMicrosecond,
          bar.end * kMicrosecond};
}

Trace expected_of(const Timeline& timeline) {
  Trace trace;
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    const RankTimeline& one = timeline.ranks[rank];
    for (std::size_t bar = 0; bar < one.bars.size(); ++bar)
      trace.slices.push_back(
          slice_of(timeline, static_cast<std::int32_t>(rank), static_cast<std::int32_t>(bar)));
    for (const ActivationSample& sample : one.activations)
      trace.samples.emplace_back("activations, rank " + std::to_string(rank), sample.time * kMicrosecond,
                                 sample.count);
  }
  for (const LinkTimeline& link : timeline.links) {
    const std::string track = "link " + std::to_string(link.from) + " to " + std::to_string(link.to);
    for (const Transfer& transfer : link.transfers) {
      trace.slices.emplace_back(track, to_string(transfer.pass), transfer.begin * kMicrosecond,
                                transfer.end * kMicrosecond);
      trace.arrows.emplace_back(slice_of(timeline, link.from, transfer.sender),
                                slice_of(timeline, link.to, transfer.receiver));
    }
  }
  trace.sort();
  return trace;
}

void expect_same(Trace found, const Timeline& timeline) {
  found.sort();
  const Trace expected = expected_of(timeline);
  EXPECT_EQ(found.slices, expected.slices);
  EXPECT_EQ(found.samples, expected.samples);
  EXPECT_EQ(found.arrows, expected.arrows);
}

/// No two slices of a track that overlap without one holding the other: no viewer could show them.
void expect_no_overlap(const std::vector<std::pair<std::int64_t, std::int64_t>>& slices) {
  auto sorted = slices;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 1; i < sorted.size(); ++i) EXPECT_GE(sorted[i].first, sorted[i - 1].second);
}

std::int64_t to_ns(const nlohmann::json& microseconds) {
  return std::llround(microseconds.get<double>() * 1000);
}

/// Chrome's rules: a name of a track is an event, an arrow's end binds to the slice around it.
class ChromeReader {
 public:
  Trace read(const std::string& text) {
    const auto json = nlohmann::json::parse(text);
    const auto& events = json["traceEvents"];
    for (const auto& event : events) {
      if (event["ph"] == "M" && event["name"] == "thread_name") tracks_[event["tid"]] = event["args"]["name"];
    }
    for (const auto& event : events) {
      if (event["ph"] == "X") add_slice(event);
    }
    for (const auto& [tid, slices] : times_) expect_no_overlap(slices);
    for (const auto& event : events) add(event);
    for (const auto& [id, from] : starts_) trace_.arrows.emplace_back(from, ends_.at(id));
    EXPECT_EQ(starts_.size(), ends_.size());
    return trace_;
  }

 private:
  void add_slice(const nlohmann::json& event) {
    const std::int64_t begin = to_ns(event["ts"]);
    const std::int64_t end = begin + to_ns(event["dur"]);
    EXPECT_EQ(event["pid"], 1);
    EXPECT_GT(event["tid"], 0) << "Perfetto's idle thread";
    trace_.slices.emplace_back(tracks_.at(event["tid"]), event["name"], begin, end);
    slices_[event["tid"]].push_back(trace_.slices.back());
    times_[event["tid"]].emplace_back(begin, end);
  }

  const Slice& around(const nlohmann::json& event) {
    const std::int64_t time = to_ns(event["ts"]);
    for (const Slice& slice : slices_[event["tid"]]) {
      if (std::get<2>(slice) <= time && time < std::get<3>(slice)) return slice;
    }
    ADD_FAILURE() << "no slice around " << event;
    return trace_.slices.front();
  }

  void add(const nlohmann::json& event) {
    if (event["ph"] == "s") {
      EXPECT_TRUE(starts_.emplace(event["id"], around(event)).second);
    }
    if (event["ph"] == "f") {
      EXPECT_EQ(event["bp"], "e");
      EXPECT_TRUE(ends_.emplace(event["id"], around(event)).second);
    }
    if (event["ph"] == "C")
      trace_.samples.emplace_back(event["name"], to_ns(event["ts"]), event["args"]["held"]);
  }

  std::map<std::int64_t, std::string> tracks_;  // by thread id
  std::map<std::int64_t, std::vector<Slice>> slices_;
  std::map<std::int64_t, std::vector<std::pair<std::int64_t, std::int64_t>>> times_;
  std::map<std::int64_t, Slice> starts_;  // by flow
  std::map<std::int64_t, Slice> ends_;
  Trace trace_;
};

/// Perfetto's: tracks are described before their first event, an arrow begins and ends at slices that name
/// it. Field numbers as in protos/perfetto/trace of https://github.com/google/perfetto.
class PerfettoReader {
 public:
  Trace read(const std::string& text) {
    for (const testing::Field& packet : testing::read_message(text)) {
      EXPECT_EQ(packet.number, 1U);
      read_packet(testing::read_message(packet.bytes));
    }
    for (const auto& [track, slices] : open_) EXPECT_TRUE(slices.empty()) << "a slice that never ends";
    for (const auto& [track, slices] : times_) expect_no_overlap(slices);
    for (const auto& [flow, from] : starts_)
      trace_.arrows.emplace_back(trace_.slices[from], trace_.slices[ends_.at(flow)]);
    EXPECT_EQ(starts_.size(), ends_.size());
    return trace_;
  }

  const std::vector<std::string>& processes() const { return processes_; }

 private:
  void read_packet(const std::vector<testing::Field>& packet) {
    std::int64_t time = -1;
    for (const testing::Field& field : packet) {
      if (field.number == 8) time = static_cast<std::int64_t>(field.value);
      if (field.number == 10) {
        EXPECT_EQ(field.value, 1U);
      }
      if (field.number == 11) read_event(testing::read_message(field.bytes), time);
      if (field.number == 60) read_descriptor(testing::read_message(field.bytes));
    }
  }

  void read_descriptor(const std::vector<testing::Field>& fields) {
    std::uint64_t uuid = 0;
    for (const testing::Field& field : fields) {
      if (field.number == 1) uuid = field.value;
      if (field.number == 2) {
        EXPECT_TRUE(tracks_.emplace(uuid, field.bytes).second);
      }
      if (field.number == 3) {
        for (const testing::Field& process : testing::read_message(field.bytes)) {
          if (process.number == 6) processes_.push_back(process.bytes);
        }
      }
    }
  }

  void read_event(const std::vector<testing::Field>& fields, std::int64_t time) {
    ASSERT_GE(time, 0);
    std::uint64_t type = 0;
    std::uint64_t track = 0;
    std::string name;
    for (const testing::Field& field : fields) {
      if (field.number == 9) type = field.value;
      if (field.number == 11) track = field.value;
      if (field.number == 23) name = field.bytes;
      if (field.number == 30)
        trace_.samples.emplace_back(tracks_.at(track), time, static_cast<std::int64_t>(field.value));
      if (field.number == 47) {
        EXPECT_TRUE(starts_.emplace(field.value, trace_.slices.size()).second);
      }
      if (field.number == 48) {
        EXPECT_TRUE(ends_.emplace(field.value, trace_.slices.size()).second);
      }
    }
    if (type == 1) {
      open_[track].push_back(trace_.slices.size());
      trace_.slices.emplace_back(tracks_.at(track), name, time, -1);
    }
    if (type == 2) {
      ASSERT_FALSE(open_[track].empty());
      Slice& slice = trace_.slices[open_[track].back()];
      std::get<3>(slice) = time;
      times_[track].emplace_back(std::get<2>(slice), time);
      open_[track].pop_back();
    }
  }

  std::vector<std::string> processes_;
  std::map<std::uint64_t, std::string> tracks_;             // by uuid
  std::map<std::uint64_t, std::vector<std::size_t>> open_;  // by track: slices that have not ended
  std::map<std::uint64_t, std::vector<std::pair<std::int64_t, std::int64_t>>> times_;
  std::map<std::uint64_t, std::size_t> starts_;  // by flow
  std::map<std::uint64_t, std::size_t> ends_;
  Trace trace_;
};

TEST(ChromeTraceTest, HasEachActionTransferAndSampleOnceAtItsTime) {
  for_each_timeline([](const Timeline& timeline) {
    expect_same(ChromeReader().read(chrome_trace({&timeline, 1})), timeline);
  });
}

TEST(PerfettoTraceTest, HasEachActionTransferAndSampleOnceAtItsTime) {
  for_each_timeline([](const Timeline& timeline) {
    expect_same(PerfettoReader().read(perfetto_trace({&timeline, 1})), timeline);
  });
}

// Transfers that take longer than a pass are on their way at the same time.
TEST(TraceTest, MessagesOfALinkThatOverlapGetTracksOfTheirOwn) {
  const Timeline timeline = timeline_of("1f1b", {4, 12}, "f=2,i=1,w=1", 7);
  expect_same(ChromeReader().read(chrome_trace({&timeline, 1})), timeline);
  expect_same(PerfettoReader().read(perfetto_trace({&timeline, 1})), timeline);
}

TEST(TraceTest, RealUnitsOfTimeAreKept) {
  Timeline timeline = timeline_of("1f1b", {2, 4});
  timeline.unit_ns = 250;
  const Trace chrome = ChromeReader().read(chrome_trace({&timeline, 1}));
  const Trace perfetto = PerfettoReader().read(perfetto_trace({&timeline, 1}));
  for (const Trace* trace : {&chrome, &perfetto}) {
    EXPECT_EQ(std::get<3>(trace->slices.at(0)), 250);
    EXPECT_EQ(std::get<2>(trace->slices.at(1)), 250);
  }
}

TEST(TraceTest, TimesTooLongForMicrosecondsAreWrittenAsNanoseconds) {
  const Timeline timeline = timeline_of("1f1b", {2, 4}, "f=1000000000000,i=1000000000000,w=1000000000000");
  Timeline longer = timeline;
  for (RankTimeline& rank : longer.ranks) {
    for (Bar& bar : rank.bars) {
      bar.begin *= 100000;
      bar.end *= 100000;
    }
  }
  const auto json = nlohmann::json::parse(chrome_trace({&longer, 1}));
  double end = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] == "X" && event["tid"] <= 2)
      end = std::max(end, event["ts"].get<double>() + event["dur"].get<double>());
  }
  EXPECT_DOUBLE_EQ(end, 15e17 / 1000);
}

TEST(TraceTest, TimelinesAreProcessesWithNamesOfTheirOwn) {
  const std::vector<Timeline> both = {timeline_of("1f1b", {2, 4}), timeline_of("1f1b", {2, 6})};
  const auto json = nlohmann::json::parse(chrome_trace(both));
  std::map<int, std::string> names;
  std::map<std::int64_t, int> flows;
  for (const auto& event : json["traceEvents"]) {
    if (event["name"] == "process_name") names[event["pid"]] = event["args"]["name"];
    if (event["ph"] == "s") ++flows[event["id"]];
  }
  EXPECT_EQ(names, (std::map<int, std::string>{{1, "1f1b"}, {2, "1f1b (2)"}}));
  EXPECT_EQ(flows.size(), 2 * (4U + 6U));
  PerfettoReader perfetto;
  perfetto.read(perfetto_trace(both));
  EXPECT_EQ(perfetto.processes(), (std::vector<std::string>{"1f1b", "1f1b (2)"}));
}

TEST(TraceTest, BytesHaveACounterWhereTheyAreKnown) {
  CostModel costs;
  costs.stages[0].activation_bytes = 5;
  const Timeline timeline = timeline_of(generate("gpipe", {2, 3}), costs);
  const auto json = nlohmann::json::parse(chrome_trace({&timeline, 1}));
  std::int64_t most = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["name"] == "activation bytes, rank 1")
      most = std::max(most, event["args"]["bytes"].get<std::int64_t>());
  }
  EXPECT_EQ(most, 15);
}

TEST(TraceTest, NamesAreEscaped) {
  Timeline timeline = timeline_of("1f1b", {2, 4});
  timeline.name = "a\"b\\c\n\xff";
  const auto json = nlohmann::json::parse(chrome_trace({&timeline, 1}));
  EXPECT_EQ(json["traceEvents"][0]["args"]["name"], "a\"b\\c?\xef\xbf\xbd");
  EXPECT_EQ(perfetto_trace({&timeline, 1}).find('\xff'), std::string::npos);
}

TEST(TraceTest, TransfersThatNameNoBarHaveNoArrow) {
  Timeline timeline = timeline_of("1f1b", {2, 4});
  timeline.links[0].transfers[0].sender = -1;
  timeline.links[0].transfers[1].receiver = 1000;
  const std::size_t arrows = ChromeReader().read(chrome_trace({&timeline, 1})).arrows.size();
  EXPECT_EQ(arrows, 6U);
  EXPECT_EQ(PerfettoReader().read(perfetto_trace({&timeline, 1})).arrows.size(), 6U);
}

TEST(TraceTest, NothingToDrawIsNoError) {
  EXPECT_EQ(nlohmann::json::parse(chrome_trace({}))["traceEvents"].size(), 0U);
  EXPECT_EQ(perfetto_trace({}), "");
}

// tests/render/perfetto_protos_test.py reads the second with Perfetto's own definitions.
TEST(TraceTest, TracesAreAsKept) {
  const Timeline timeline = timeline_of("dualpipe", {2, 4}, "f=1,i=1,w=1,fb=3", 1);
  testing::expect_golden("dualpipe_2x4.trace.json", chrome_trace({&timeline, 1}));
  testing::expect_golden("dualpipe_2x4.pftrace", perfetto_trace({&timeline, 1}));
}

}  // namespace
}  // namespace counterflow
