#include "timeline_recorder.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>
#include <type_traits>
#include <utility>

#include "counterflow/error.h"
#include "counterflow/recording.h"

namespace counterflow::runtime {
namespace {

template <class Value>
void append(std::string& bytes, const std::vector<Value>& values) {
  static_assert(std::is_trivially_copyable_v<Value>);
  const std::uint64_t count = values.size();
  bytes.append(reinterpret_cast<const char*>(&count), sizeof count);
  bytes.append(reinterpret_cast<const char*>(values.data()), count * sizeof(Value));
}

/// Takes a vector off the front. What came from another rank may be cut short: then it is empty.
template <class Value>
std::vector<Value> take(std::string_view& bytes, const Value& any) {
  std::uint64_t count = 0;
  if (bytes.size() < sizeof count) return {};
  std::memcpy(&count, bytes.data(), sizeof count);
  bytes.remove_prefix(sizeof count);
  if (count == 0 || count > bytes.size() / sizeof(Value)) return {};
  std::vector<Value> values(count, any);
  std::memcpy(static_cast<void*>(values.data()), bytes.data(), count * sizeof(Value));
  bytes.remove_prefix(count * sizeof(Value));
  return values;
}

}  // namespace

void TimelineRecorder::clear(c10::Device device) {
  bars_.clear();
  waits_.clear();
  sends_.clear();
  receipts_.clear();
  in_action_ = false;
  clock_.start(device);
}

void TimelineRecorder::begin() {
  begin_ = clock_.read();
  waited_ = {};
  in_action_ = true;
}

void TimelineRecorder::end(const Action& action) {
  const std::int64_t end = clock_.read();
  bars_.push_back({action, begin_, end});
  waits_.push_back(waited_);
  begin_ = end;
  waited_ = {};
  in_action_ = false;
}

void TimelineRecorder::arrived(const Pass& producer) {
  const std::int64_t now = clock_.read();
  receipts_.push_back({producer, waits_from_, now});
  if (in_action_) waited_ = {waits_from_, now};
}

std::string TimelineRecorder::bytes() const {
  std::vector<Bar> bars = bars_;
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const Span& wait = waits_[i];
    const std::int64_t waited = wait.end == wait.begin ? 0 : clock_.ns(wait.end) - clock_.ns(wait.begin);
    bars[i].begin = clock_.ns(bars[i].begin) + waited;
    bars[i].end = clock_.ns(bars[i].end);
  }
  std::vector<Event> sends = sends_;
  for (Event& send : sends) send.begin = clock_.ns(send.begin);
  std::vector<Event> receipts = receipts_;
  for (Event& receipt : receipts) {
    receipt.begin = clock_.ns(receipt.begin);
    receipt.end = clock_.ns(receipt.end);
  }
  std::string bytes;
  append(bytes, bars);
  append(bytes, sends);
  append(bytes, receipts);
  return bytes;
}

TimelineRecorder::Noted TimelineRecorder::read(const std::string& bytes) {
  std::string_view rest = bytes;
  Noted noted;
  noted.bars = take(rest, Bar{Pass{}});
  noted.sends = take(rest, Event{});
  noted.receipts = take(rest, Event{});
  return noted;
}

/// What came from another rank is not trusted to be of this schedule.
void TimelineRecorder::check(const Noted& noted, const Placement& placement) {
  const auto check_pass = [&placement](const Pass& pass) {
    if (pass.stage < 0 || pass.stage >= placement.num_stages() || pass.micro_batch < 0 ||
        pass.micro_batch >= placement.num_micro_batches())
      throw InvalidConfig("a rank noted a pass that the schedule does not have");
  };
  for (const Bar& bar : noted.bars)
    for (const Pass& pass : bar.action.passes()) check_pass(pass);
  for (const auto* events : {&noted.sends, &noted.receipts})
    for (const Event& event : *events) check_pass(event.pass);
}

Timeline TimelineRecorder::timeline(const Schedule& schedule, const std::vector<std::string>& bytes) {
  std::vector<Noted> ranks;
  std::int64_t origin = INT64_MAX;
  for (const std::string& of_rank : bytes) {
    ranks.push_back(read(of_rank));
    if (!ranks.back().bars.empty()) origin = std::min<std::int64_t>(origin, ranks.back().bars.front().begin);
  }
  if (origin == INT64_MAX)
    throw InvalidConfig("no step was recorded: call Pipeline::record_timeline(true) before it");
  for (const Noted& rank : ranks) check(rank, schedule.placement);
  Timeline timeline;
  timeline.name = schedule.name;
  timeline.placement = schedule.placement;
  timeline.passes = schedule.passes;
  timeline.unit_ns = 1;
  for (Noted& rank : ranks) {
    for (Bar& bar : rank.bars) bar.begin -= origin, bar.end -= origin;
    for (std::vector<Event>* events : {&rank.sends, &rank.receipts})
      for (Event& event : *events) event.begin -= origin, event.end -= origin;
    timeline.ranks.push_back({rank.bars, {}});
  }
  add_transfers(timeline, ranks);
  connect(timeline);
  return timeline;
}

/// A message is under way from its sending to its arrival, which is known only where it was waited for: one
/// that lay there when it was wanted counts as taking no time.
void TimelineRecorder::add_transfers(Timeline& timeline, const std::vector<Noted>& ranks) {
  using Key = std::tuple<int, int, bool>;  // stage, micro-batch, whether a gradient
  const auto key = [](const Pass& pass) {
    return Key{pass.stage, pass.micro_batch, sends_gradient(pass.kind)};
  };
  std::map<Key, std::pair<int, Event>> receipts;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank)
    for (const Event& receipt : ranks[rank].receipts)
      receipts.insert_or_assign(key(receipt.pass), std::pair(static_cast<int>(rank), receipt));
  std::map<std::pair<int, int>, LinkTimeline> links;
  for (std::size_t from = 0; from < ranks.size(); ++from) {
    for (const Event& send : ranks[from].sends) {
      const auto found = receipts.find(key(send.pass));
      if (found == receipts.end()) continue;
      const auto& [to, receipt] = found->second;
      const bool was_waited_for = receipt.begin <= send.begin;
      LinkTimeline& link = links[{static_cast<int>(from), to}];
      link.from = static_cast<int>(from);
      link.to = to;
      link.transfers.push_back({.pass = send.pass,
                                .begin = send.begin,
                                .end = was_waited_for ? std::max(send.begin, receipt.end) : send.begin});
    }
  }
  for (auto& [pair, link] : links) timeline.links.push_back(std::move(link));
}

}  // namespace counterflow::runtime
