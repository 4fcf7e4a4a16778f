// Perfetto's trace format, TrackEvents: protos/perfetto/trace/ in https://github.com/google/perfetto,
// https://perfetto.dev/docs/reference/synthetic-track-event.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "counterflow/render.h"
#include "labels.h"
#include "protobuf.h"
#include "trace_tracks.h"

namespace counterflow {
namespace {

// Numbers of fields and enumerators, by message.
namespace trace {
constexpr std::uint32_t kPacket = 1;
}
namespace packet {
constexpr std::uint32_t kTimestamp = 8;
constexpr std::uint32_t kSequenceId = 10;  // trusted_packet_sequence_id
constexpr std::uint32_t kTrackEvent = 11;
constexpr std::uint32_t kTrackDescriptor = 60;
}  // namespace packet
namespace descriptor {
constexpr std::uint32_t kUuid = 1;
constexpr std::uint32_t kName = 2;
constexpr std::uint32_t kProcess = 3;
constexpr std::uint32_t kParentUuid = 5;
constexpr std::uint32_t kCounter = 8;
constexpr std::uint32_t kChildOrdering = 11;
constexpr std::uint32_t kSiblingOrderRank = 12;
constexpr std::uint64_t kExplicitOrder = 3;
}  // namespace descriptor
namespace process {
constexpr std::uint32_t kPid = 1;
constexpr std::uint32_t kName = 6;
}  // namespace process
namespace counter {
constexpr std::uint32_t kUnit = 3;
constexpr std::uint64_t kCount = 2;
constexpr std::uint64_t kSizeBytes = 3;
}  // namespace counter
namespace event {
constexpr std::uint32_t kType = 9;
constexpr std::uint32_t kTrackUuid = 11;
constexpr std::uint32_t kCategories = 22;
constexpr std::uint32_t kName = 23;
constexpr std::uint32_t kCounterValue = 30;
constexpr std::uint32_t kFlowIds = 47;
constexpr std::uint32_t kTerminatingFlowIds = 48;
constexpr std::uint64_t kSliceBegin = 1;
constexpr std::uint64_t kSliceEnd = 2;
constexpr std::uint64_t kCounter = 4;
}  // namespace event

constexpr std::uint64_t kSequence = 1;
constexpr std::size_t kBytesOfAnEvent = 42;

/// Writes packets. The buffers are kept, so that an event allocates nothing.
class Packets {
 public:
  explicit Packets(std::string& text) : text_(text) {}

  void track(std::string_view descriptor) {
    packet_.clear();
    Protobuf packet(packet_);
    packet.varint(packet::kSequenceId, kSequence);
    packet.bytes(packet::kTrackDescriptor, descriptor);
    finish();
  }

  /// Begins an event; what follows are its own fields. finish_event() ends it.
  Protobuf event(std::uint64_t type, std::uint64_t track) {
    event_.clear();
    Protobuf event(event_);
    event.varint(event::kType, type);
    event.varint(event::kTrackUuid, track);
    return event;
  }

  void finish_event(Time ns) {
    packet_.clear();
    Protobuf packet(packet_);
    packet.varint(packet::kTimestamp, static_cast<std::uint64_t>(ns));
    packet.varint(packet::kSequenceId, kSequence);
    packet.bytes(packet::kTrackEvent, event_);
    finish();
  }

 private:
  void finish() { Protobuf(text_).bytes(trace::kPacket, packet_); }

  std::string& text_;
  std::string packet_;
  std::string event_;
};

/// Writes one timeline as a process. Its tracks are numbered from `first_track`.
class Process {
 public:
  Process(const Timeline& timeline, std::uint64_t pid, Packets& packets)
      : timeline_(timeline),
        pid_(pid),
        unit_(trace_unit_ns(timeline)),
        track_(pid << 32),
        process_track_(track_),
        packets_(packets) {}

  void write(const std::string& name, std::uint64_t& first_flow) {
    describe_process(name);
    const std::vector<RankFlows> flows = flows_of(timeline_, first_flow);
    for (std::size_t rank = 0; rank < timeline_.ranks.size(); ++rank) {
      write_bars(timeline_.ranks[rank].bars, flows[rank], add_track(rank_track_name(rank)));
      write_activations(timeline_.ranks[rank].activations, rank);
    }
    for (const LinkTimeline& link : timeline_.links) write_link(link);
  }

 private:
  void describe_process(const std::string& name) {
    std::string process;
    Protobuf(process).varint(process::kPid, pid_);
    Protobuf(process).bytes(process::kName, name);
    std::string descriptor;
    Protobuf fields(descriptor);
    fields.varint(descriptor::kUuid, process_track_);
    fields.bytes(descriptor::kProcess, process);
    fields.varint(descriptor::kChildOrdering, descriptor::kExplicitOrder);
    packets_.track(descriptor);
  }

  /// A new track below the ones before it; `counter_unit` where it counts.
  std::uint64_t add_track(std::string_view name, std::uint64_t counter_unit = 0) {
    ++track_;
    std::string descriptor;
    Protobuf fields(descriptor);
    fields.varint(descriptor::kUuid, track_);
    fields.varint(descriptor::kParentUuid, process_track_);
    fields.bytes(descriptor::kName, name);
    fields.varint(descriptor::kSiblingOrderRank, track_ - process_track_);
    if (counter_unit > 0) {
      std::string counter;
      Protobuf(counter).varint(counter::kUnit, counter_unit);
      fields.bytes(descriptor::kCounter, counter);
    }
    packets_.track(descriptor);
    return track_;
  }

  void write_bars(const std::vector<Bar>& bars, const RankFlows& flows, std::uint64_t track) {
    auto out = flows.out.begin();
    auto in = flows.in.begin();
    for (std::size_t index = 0; index < bars.size(); ++index) {
      const Bar& bar = bars[index];
      const auto id = static_cast<std::int32_t>(index);
      Protobuf event = packets_.event(event::kSliceBegin, track);
      const char kind = bar.action.is_overlap() ? 'X' : letter(bar.action.passes()[0].kind);
      event.bytes(event::kCategories, std::string_view(&kind, 1));
      event.bytes(event::kName, to_string(bar.action));
      for (; out != flows.out.end() && out->bar == id; ++out) event.fixed64(event::kFlowIds, out->flow);
      for (; in != flows.in.end() && in->bar == id; ++in) event.fixed64(event::kTerminatingFlowIds, in->flow);
      packets_.finish_event(bar.begin * unit_);
      packets_.event(event::kSliceEnd, track);
      packets_.finish_event(bar.end * unit_);
    }
  }

  void write_activations(const std::vector<ActivationSample>& samples, std::size_t rank) {
    if (samples.empty()) return;
    const std::uint64_t held = add_track("activations, rank " + std::to_string(rank), counter::kCount);
    for (const ActivationSample& sample : samples) write_count(held, sample.time, sample.count);
    const bool has_bytes = std::any_of(samples.begin(), samples.end(),
                                       [](const ActivationSample& one) { return one.bytes > 0; });
    if (!has_bytes) return;
    const std::uint64_t bytes =
        add_track("activation bytes, rank " + std::to_string(rank), counter::kSizeBytes);
    for (const ActivationSample& sample : samples) write_count(bytes, sample.time, sample.bytes);
  }

  void write_count(std::uint64_t track, Time time, std::int64_t value) {
    packets_.event(event::kCounter, track).varint(event::kCounterValue, static_cast<std::uint64_t>(value));
    packets_.finish_event(time * unit_);
  }

  void write_link(const LinkTimeline& link) {
    const std::vector<std::int32_t> lanes = lanes_of(link);
    std::vector<std::uint64_t> tracks{add_track(link_track_name(link))};
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      const Transfer& transfer = link.transfers[i];
      if (lanes[i] == static_cast<std::int32_t>(tracks.size()))
        tracks.push_back(add_track(link_track_name(link)));
      Protobuf event = packets_.event(event::kSliceBegin, tracks[lanes[i]]);
      event.bytes(event::kCategories, "transfer");
      event.bytes(event::kName, to_string(transfer.pass));
      packets_.finish_event(transfer.begin * unit_);
      packets_.event(event::kSliceEnd, tracks[lanes[i]]);
      packets_.finish_event(transfer.end * unit_);
    }
  }

  const Timeline& timeline_;
  std::uint64_t pid_;
  std::int64_t unit_;
  std::uint64_t track_;  // the last one given out
  const std::uint64_t process_track_;
  Packets& packets_;
};

std::size_t estimate_events(std::span<const Timeline> timelines) {
  std::size_t events = 1;
  for (const Timeline& timeline : timelines) {
    for (const RankTimeline& rank : timeline.ranks)
      events += 4 + 2 * rank.bars.size() + rank.activations.size();
    for (const LinkTimeline& link : timeline.links) events += 2 + 2 * link.transfers.size();
  }
  return events;
}

}  // namespace

std::string perfetto_trace(std::span<const Timeline> timelines) {
  std::string text;
  text.reserve(kBytesOfAnEvent * estimate_events(timelines));
  Packets packets(text);
  const std::vector<std::string> names = distinct_titles(timelines);
  std::uint64_t first_flow = 1;
  for (std::size_t t = 0; t < timelines.size(); ++t)
    Process(timelines[t], t + 1, packets).write(names[t], first_flow);
  return text;
}

}  // namespace counterflow
