#include "counterflow/profile_trace.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "../core/file.h"
#include "chrome_events.h"
#include "counterflow/error.h"
#include "intervals.h"
#include "launches.h"

namespace counterflow {
namespace {

using Kind = ChromeEvent::Kind;
using Stream = std::pair<std::uint32_t, std::uint32_t>;  // device and stream, by name

constexpr std::size_t kMostFileBytes = std::size_t{1} << 30;

/// Whether a kernel's name is one that moves data between devices.
bool is_communication(const std::string& name) {
  static constexpr std::array<std::string_view, 18> kWords = {
      "nccl",       "rccl",     "nvshmem",        "::ep::",        "deep_ep",    "internode",
      "intranode",  "alltoall", "all_to_all",     "allreduce",     "all_reduce", "allgather",
      "all_gather", "sendrecv", "reduce_scatter", "reducescatter", "multimem",   "memcpy ptop"};
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](std::string_view word) { return lower.find(word) != std::string::npos; });
}

/// Times on each device.
using ByDevice = std::map<std::uint32_t, std::vector<Interval>>;

void append(ByDevice& to, const ByDevice& from) {
  for (const auto& [device, intervals] : from) {
    std::vector<Interval>& all = to[device];
    all.insert(all.end(), intervals.begin(), intervals.end());
  }
}

void merge(ByDevice& by_device) {
  for (auto& [device, intervals] : by_device) intervals = merged(std::move(intervals));
}

/// The times of kernels.
struct Busy {
  ByDevice compute;
  ByDevice communication;

  void add(const ChromeEvent& kernel, bool communicates) {
    (communicates ? communication : compute)[kernel.process].emplace_back(kernel.begin, kernel.end);
  }
  void merge() {
    counterflow::merge(compute);
    counterflow::merge(communication);
  }
  ByDevice all() const {
    ByDevice both = compute;
    append(both, communication);
    counterflow::merge(both);
    return both;
  }
};

Time length(const ByDevice& by_device) {
  Time sum = 0;
  for (const auto& [device, intervals] : by_device) sum += counterflow::length(intervals);
  return sum;
}

Time common_length(const ByDevice& a, const ByDevice& b) {
  Time sum = 0;
  for (const auto& [device, intervals] : a) {
    const auto other = b.find(device);
    if (other != b.end()) sum += counterflow::common_length(intervals, other->second);
  }
  return sum;
}

class ProfileReader {
 public:
  explicit ProfileReader(const Source& source) : trace_(read_chrome_events(source)) {
    for (const ChromeEvent& event : trace_.events) {
      if (event.kind == Kind::kKernel) kernels_.push_back(&event);
    }
    if (kernels_.empty())
      source.fail(0,
                  "expected kernels of a GPU among the trace's events, found none; profile with "
                  "ProfilerActivity.CUDA");
    check_times(source);
  }

  ProfileTrace read() {
    find_streams();
    find_busy();
    find_chunks();
    return std::move(result_);
  }

 private:
  /// Sums over all devices and streams must not overflow.
  void check_times(const Source& source) {
    Time begin = kernels_.front()->begin;
    Time end = kernels_.front()->end;
    std::set<Stream> streams;
    for (const ChromeEvent* kernel : kernels_) {
      begin = std::min(begin, kernel->begin);
      end = std::max(end, kernel->end);
      streams.insert({kernel->process, kernel->thread});
    }
    constexpr Time kMostSpan = Time{1} << 50;  // 13 days
    constexpr std::size_t kMostStreams = 4096;
    if (end - begin > kMostSpan || streams.size() > kMostStreams)
      source.fail(0, "expected kernels of at most 13 days on at most 4096 streams, found " +
                         std::to_string((end - begin) / 1'000'000'000) + " s on " +
                         std::to_string(streams.size()));
    result_.span = end - begin;
  }

  void find_streams() {
    struct Times {
      std::vector<Interval> all;
      std::vector<Interval> communication;
    };
    std::map<Stream, Times> streams;
    std::map<std::uint32_t, bool> communicates;  // by kernel's name
    for (const ChromeEvent* kernel : kernels_) {
      const auto [name, is_new] = communicates.try_emplace(kernel->name);
      if (is_new) name->second = is_communication(trace_.names.text(kernel->name));
      Times& times = streams[{kernel->process, kernel->thread}];
      times.all.emplace_back(kernel->begin, kernel->end);
      if (name->second) times.communication.emplace_back(kernel->begin, kernel->end);
    }
    for (auto& [stream, times] : streams) {
      ProfileStream& one = result_.streams.emplace_back();
      one.device = trace_.names.text(stream.first);
      one.stream = trace_.names.text(stream.second);
      one.kernels = static_cast<std::int64_t>(times.all.size());
      one.busy = counterflow::length(merged(times.all));
      one.communicates = 2 * counterflow::length(merged(times.communication)) > one.busy;
      if (one.communicates) communication_streams_.insert(stream);
    }
  }

  bool communicates(const ChromeEvent& kernel) const {
    return communication_streams_.contains({kernel.process, kernel.thread});
  }

  void find_busy() {
    Busy busy;
    for (const ChromeEvent* kernel : kernels_) busy.add(*kernel, communicates(*kernel));
    busy.merge();
    result_.compute_busy = length(busy.compute);
    result_.communication_busy = length(busy.communication);
    result_.communication_hidden = common_length(busy.communication, busy.compute);
  }

  /// A chunk: all kernels of a kind, or those of one range that names an action.
  using ChunkKey = std::pair<Phase, std::int32_t>;

  void find_chunks() {
    const std::vector<Launch> launches = find_launches(trace_);
    std::map<ChunkKey, Busy> chunks;
    std::map<std::int32_t, Interval> pairs;  // by range
    for (const ChromeEvent* kernel : kernels_) {
      const Launch& launch = launches[kernel - trace_.events.data()];
      if (launch.phase == Phase::kOther) continue;
      const std::string* range =
          launch.range < 0 ? nullptr : &trace_.names.text(trace_.events[launch.range].name);
      const bool names_action = range != nullptr && is_action(*range);
      if (names_action && phase_of(*range) == Phase::kPair) {
        const auto [pair, is_new] = pairs.try_emplace(launch.range, kernel->begin, kernel->end);
        pair->second = {std::min(pair->second.first, kernel->begin),
                        std::max(pair->second.second, kernel->end)};
        continue;
      }
      chunks[{launch.phase, names_action ? launch.range : -1}].add(*kernel, communicates(*kernel));
    }
    for (auto& [key, busy] : chunks) busy.merge();
    result_.forward = chunk(chunks, Phase::kForward);
    result_.backward = chunk(chunks, Phase::kBackward);
    result_.weight_gradient = chunk(chunks, Phase::kWeightGradient);
    result_.pair = pairs.empty() ? unnamed_pair(chunks) : mean(pairs);
  }

  /// The mean of the chunks of a kind: of those that ranges name, if there are any.
  ChunkProfile chunk(const std::map<ChunkKey, Busy>& chunks, Phase phase) const {
    const bool has_named = chunks.upper_bound({phase, -1}) != chunks.lower_bound({phase, kLast});
    std::int64_t count = 0;
    double compute = 0;  // sums that a Time might not hold
    double communication = 0;
    double busy = 0;
    for (auto one = chunks.lower_bound({phase, has_named ? 0 : -1});
         one != chunks.end() && one->first.first == phase; ++one) {
      count += has_named ? 1 : num_steps();
      compute += static_cast<double>(length(one->second.compute));
      communication += static_cast<double>(length(one->second.communication));
      busy += static_cast<double>(length(one->second.all()));
    }
    const auto mean = [&](double sum) {
      return count == 0 ? 0 : std::llround(sum / static_cast<double>(count));
    };
    return {
        .count = count, .compute = mean(compute), .communication = mean(communication), .busy = mean(busy)};
  }

  std::int64_t num_steps() const {
    const auto steps =
        std::count_if(trace_.events.begin(), trace_.events.end(), [&](const ChromeEvent& event) {
          return event.kind == Kind::kRange && trace_.names.text(event.name).starts_with("ProfilerStep");
        });
    return std::max<std::int64_t>(1, steps);
  }

  static Time mean(const std::map<std::int32_t, Interval>& intervals) {
    double sum = 0;
    for (const auto& [range, interval] : intervals)
      sum += static_cast<double>(interval.second - interval.first);
    return std::llround(sum / static_cast<double>(intervals.size()));
  }

  /// All of a step is a pair where the forward's and the backward's kernels ran at the same time for a
  /// quarter of the shorter of both.
  std::optional<Time> unnamed_pair(const std::map<ChunkKey, Busy>& chunks) const {
    ByDevice forward;
    ByDevice backward;
    for (const auto& [key, busy] : chunks) {
      if (key.second >= 0) return std::nullopt;
      append(key.first == Phase::kForward ? forward : backward, busy.all());
    }
    merge(forward);
    merge(backward);
    const Time common = common_length(forward, backward);
    if (common == 0 || 4 * common < std::min(length(forward), length(backward))) return std::nullopt;
    return result_.span / num_steps();
  }

  static constexpr std::int32_t kLast = std::numeric_limits<std::int32_t>::max();

  ChromeEvents trace_;
  std::vector<const ChromeEvent*> kernels_;
  std::set<Stream> communication_streams_;
  ProfileTrace result_;
};

}  // namespace

double ProfileTrace::communication_hidden_ratio() const {
  if (communication_busy == 0) return 0;
  return static_cast<double>(communication_hidden) / static_cast<double>(communication_busy);
}

ProfileTrace parse_profile_trace(std::string_view json, const std::string& file) {
  return ProfileReader({json, file}).read();
}

ProfileTrace read_profile_trace(const std::string& path) {
  return parse_profile_trace(read_text(path, kMostFileBytes), path == "-" ? "<stdin>" : path);
}

CostModel costs_of(const ProfileTrace& trace) {
  if (trace.forward.count == 0 || trace.backward.count == 0)
    throw InvalidConfig(std::string("costs: expected kernels of forwards and backwards, found none of ") +
                        (trace.forward.count == 0 ? "forwards" : "backwards"));
  const auto microseconds = [](Time ns) { return std::max<Time>(1, (ns + 500) / 1000); };
  CostModel costs;
  StageCost& stage = costs.stages[0];
  stage.f = microseconds(trace.forward.busy);
  stage.i = microseconds(trace.backward.busy);
  if (trace.weight_gradient.count > 0) {
    stage.w = microseconds(trace.weight_gradient.busy);
  } else {
    stage.w = (stage.i + 1) / 2;
    stage.i /= 2;
  }
  if (trace.pair) costs.overlap = microseconds(*trace.pair);
  return costs;
}

}  // namespace counterflow
