// Chrome's Trace Event Format
// (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU), JSON.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "counterflow/render.h"
#include "labels.h"
#include "trace_tracks.h"

namespace counterflow {
namespace {

// Thread ids. Perfetto takes the events of thread 0 for its idle thread's and loses some.
constexpr std::int64_t kFirstRank = 1;
constexpr std::int64_t kFirstLink = 1 << 20;  // above those of ranks
constexpr std::size_t kBytesOfAnEvent = 110;

/// Appends JSON to a text, piece by piece: number formatting without locale or allocation.
class Json {
 public:
  explicit Json(std::string& text) : text_(text) {}

  Json& operator<<(std::string_view piece) {
    text_ += piece;
    return *this;
  }
  Json& operator<<(std::int64_t number) {
    std::array<char, 24> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
    text_.append(digits.data(), end);
    return *this;
  }

  /// Separates the elements of the list.
  Json& next() {
    if (!is_first_) text_ += ",\n";
    is_first_ = false;
    return *this;
  }

  /// Nanoseconds as microseconds.
  Json& time(std::int64_t ns) {
    *this << ns / 1000;
    const auto rest = static_cast<int>(ns % 1000);
    if (rest == 0) return *this;
    text_ += '.';
    text_ += static_cast<char>('0' + rest / 100);
    text_ += static_cast<char>('0' + rest / 10 % 10);
    text_ += static_cast<char>('0' + rest % 10);
    return *this;
  }

  Json& pass(const Pass& pass) {
    *this << pass.stage;
    text_ += letter(pass.kind);
    return *this << pass.micro_batch;
  }

  Json& action(const Action& action) {
    const auto passes = action.passes();
    if (!action.is_overlap()) return pass(passes[0]);
    *this << "(";
    pass(passes[0]) << ";";
    return pass(passes[1]) << ")OVERLAP_F_B";
  }

  Json& quoted(std::string_view piece) {
    text_ += '"';
    for (const char c : piece) {
      if (c == '"' || c == '\\') text_ += '\\';
      if (static_cast<unsigned char>(c) < 0x20) {
        std::array<char, 8> escape{};
        std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(c));
        text_ += escape.data();
      } else {
        text_ += c;
      }
    }
    text_ += '"';
    return *this;
  }

 private:
  std::string& text_;
  bool is_first_ = true;
};

/// Writes one timeline as a process.
class Process {
 public:
  Process(const Timeline& timeline, std::int64_t pid, Json& json)
      : timeline_(timeline), pid_(pid), unit_(trace_unit_ns(timeline)), json_(json) {}

  void write(const std::string& name, std::uint64_t& first_flow) {
    name_track("process_name", kFirstRank, name);
    const std::vector<RankFlows> flows = flows_of(timeline_, first_flow);
    for (std::size_t rank = 0; rank < timeline_.ranks.size(); ++rank) {
      const std::int64_t tid = thread_of(rank);
      name_track("thread_name", tid, rank_track_name(rank));
      sort_track(tid, tid);
      write_bars(rank);
      write_flows(rank, flows[rank]);
      write_activations(rank);
    }
    std::int64_t tid = kFirstLink;
    for (const LinkTimeline& link : timeline_.links) tid = write_link(link, tid);
  }

 private:
  static std::int64_t thread_of(std::size_t rank) { return kFirstRank + static_cast<std::int64_t>(rank); }

  /// Begins an event; what follows are its own fields.
  Json& event(std::string_view phase, std::int64_t tid) {
    return json_.next() << "{\"ph\":\"" << phase << "\",\"pid\":" << pid_ << ",\"tid\":" << tid;
  }

  void name_track(std::string_view what, std::int64_t tid, const std::string& name) {
    event("M", tid) << ",\"name\":\"" << what << "\",\"args\":{\"name\":";
    json_.quoted(name) << "}}";
  }

  void sort_track(std::int64_t tid, std::int64_t index) {
    event("M", tid) << ",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":" << index << "}}";
  }

  void write_bars(std::size_t rank) {
    for (const Bar& bar : timeline_.ranks[rank].bars) {
      const char kind = bar.action.is_overlap() ? 'X' : letter(bar.action.passes()[0].kind);
      event("X", thread_of(rank)) << ",\"ts\":";
      json_.time(bar.begin * unit_) << ",\"dur\":";
      json_.time(bar.duration() * unit_) << ",\"cat\":\"" << std::string_view(&kind, 1) << "\",\"name\":\"";
      json_.action(bar.action) << "\"}";
    }
  }

  /// An arrow binds to the bar that its time lies in: the sender's last moment, the receiver's first.
  void write_flows(std::size_t rank, const RankFlows& flows) {
    const std::int64_t tid = thread_of(rank);
    const std::vector<Bar>& bars = timeline_.ranks[rank].bars;
    for (const FlowEnd& end : flows.out) {
      const Bar& bar = bars[end.bar];
      event("s", tid) << ",\"ts\":";
      json_.time(bar.end * unit_ - (bar.duration() > 0 ? 1 : 0))
          << kFlow << static_cast<std::int64_t>(end.flow) << "}";
    }
    for (const FlowEnd& end : flows.in) {
      event("f", tid) << ",\"bp\":\"e\",\"ts\":";
      json_.time(bars[end.bar].begin * unit_) << kFlow << static_cast<std::int64_t>(end.flow) << "}";
    }
  }

  void write_activations(std::size_t rank) {
    const std::int64_t tid = thread_of(rank);
    const auto number = static_cast<std::int64_t>(rank);
    bool has_bytes = false;
    for (const ActivationSample& sample : timeline_.ranks[rank].activations) {
      event("C", tid) << ",\"ts\":";
      json_.time(sample.time * unit_)
          << ",\"name\":\"activations, rank " << number << "\",\"args\":{\"held\":" << sample.count << "}}";
      has_bytes |= sample.bytes > 0;
    }
    if (!has_bytes) return;
    for (const ActivationSample& sample : timeline_.ranks[rank].activations) {
      event("C", tid) << ",\"ts\":";
      json_.time(sample.time * unit_) << ",\"name\":\"activation bytes, rank " << number
                                      << "\",\"args\":{\"bytes\":" << sample.bytes << "}}";
    }
  }

  /// Returns the first thread id that is still free.
  std::int64_t write_link(const LinkTimeline& link, std::int64_t tid) {
    const std::vector<std::int32_t> lanes = lanes_of(link);
    std::int32_t num_lanes = 1;
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      const Transfer& transfer = link.transfers[i];
      num_lanes = std::max(num_lanes, lanes[i] + 1);
      event("X", tid + lanes[i]) << ",\"ts\":";
      json_.time(transfer.begin * unit_) << ",\"dur\":";
      json_.time((transfer.end - transfer.begin) * unit_) << ",\"cat\":\"transfer\",\"name\":\"";
      json_.pass(transfer.pass) << "\"}";
    }
    for (std::int32_t lane = 0; lane < num_lanes; ++lane) {
      name_track("thread_name", tid + lane, link_track_name(link));
      sort_track(tid + lane, tid + lane);
    }
    return tid + num_lanes;
  }

  static constexpr std::string_view kFlow = ",\"cat\":\"transfer\",\"name\":\"message\",\"id\":";

  const Timeline& timeline_;
  std::int64_t pid_;
  std::int64_t unit_;
  Json& json_;
};

std::size_t estimate_events(std::span<const Timeline> timelines) {
  std::size_t events = 1;
  for (const Timeline& timeline : timelines) {
    for (const RankTimeline& rank : timeline.ranks) events += 2 + rank.bars.size() + rank.activations.size();
    for (const LinkTimeline& link : timeline.links) events += 2 + 3 * link.transfers.size();
  }
  return events;
}

}  // namespace

std::string chrome_trace(std::span<const Timeline> timelines) {
  std::string text;
  text.reserve(kBytesOfAnEvent * estimate_events(timelines));
  text += "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n";
  Json json(text);
  const std::vector<std::string> names = distinct_titles(timelines);
  std::uint64_t first_flow = 1;
  for (std::size_t t = 0; t < timelines.size(); ++t)
    Process(timelines[t], static_cast<std::int64_t>(t) + 1, json).write(names[t], first_flow);
  text += "\n]}\n";
  return text;
}

}  // namespace counterflow
