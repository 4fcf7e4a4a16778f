#include "launches.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "../core/row_reader.h"
#include "counterflow/error.h"

namespace counterflow {
namespace {

using Kind = ChromeEvent::Kind;

std::optional<Action> action_of(std::string_view name) {
  constexpr std::string_view kPrefix = "PP:";  // PyTorch's pipelines
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  if (name.empty() || (!is_digit(name[0]) && name[0] != '(')) return std::nullopt;
  try {
    const std::string file;
    const std::vector<Action> actions = read_row({name, file}, name, [](const Action&, std::size_t) {});
    if (actions.size() == 1) return actions[0];
    return std::nullopt;
  } catch (const ParseError&) {  // some other name
    return std::nullopt;
  }
}

Phase phase_of_pass(PassKind kind) {
  if (kind == PassKind::kForward) return Phase::kForward;
  return kind == PassKind::kWeightGradient ? Phase::kWeightGradient : Phase::kBackward;
}

/// A kernel and when it was launched.
struct Start {
  Time time = 0;
  std::uint32_t thread = 0;  // that launched it
  std::size_t kernel = 0;    // its event
};

/// Kernels whose launch is not in the trace count as launched when they began, by no thread.
std::vector<Start> starts_of(const ChromeEvents& trace) {
  std::unordered_map<std::int64_t, std::size_t> launches;
  for (std::size_t i = 0; i < trace.events.size(); ++i) {
    const ChromeEvent& event = trace.events[i];
    if (event.kind == Kind::kLaunch && event.correlation >= 0) launches.emplace(event.correlation, i);
  }
  std::vector<Start> starts;
  for (std::size_t i = 0; i < trace.events.size(); ++i) {
    const ChromeEvent& event = trace.events[i];
    if (event.kind != Kind::kKernel) continue;
    const auto launch = launches.find(event.correlation);
    const bool has_launch = launch != launches.end();
    const ChromeEvent& start = has_launch ? trace.events[launch->second] : event;
    starts.push_back({start.begin, has_launch ? start.thread : UINT32_MAX, i});
  }
  std::sort(starts.begin(), starts.end(), [](const Start& a, const Start& b) { return a.time < b.time; });
  return starts;
}

/// Ranges that say a phase, by begin.
std::vector<std::pair<std::size_t, Phase>> ranges_of(const ChromeEvents& trace) {
  std::unordered_map<std::uint32_t, std::optional<Phase>> phases;  // by name
  std::vector<std::pair<std::size_t, Phase>> ranges;
  for (std::size_t i = 0; i < trace.events.size(); ++i) {
    const ChromeEvent& event = trace.events[i];
    if (event.kind != Kind::kRange) continue;
    const auto [phase, is_new] = phases.try_emplace(event.name);
    if (is_new) phase->second = phase_of(trace.names.text(event.name));
    if (phase->second) ranges.emplace_back(i, *phase->second);
  }
  std::sort(ranges.begin(), ranges.end(), [&](const auto& a, const auto& b) {
    return trace.events[a.first].begin < trace.events[b.first].begin;
  });
  return ranges;
}

/// Threads on which autograd ran backwards.
std::unordered_set<std::uint32_t> backward_threads(const ChromeEvents& trace) {
  std::unordered_set<std::uint32_t> threads;
  for (const ChromeEvent& event : trace.events) {
    if (event.kind == Kind::kOperator &&
        trace.names.text(event.name).starts_with("autograd::engine::evaluate_function"))
      threads.insert(event.thread);
  }
  return threads;
}

}  // namespace

bool is_action(std::string_view name) {
  return action_of(name).has_value();
}

std::optional<Phase> phase_of(std::string_view name) {
  if (const auto action = action_of(name))
    return action->is_overlap() ? Phase::kPair : phase_of_pass(action->passes()[0].kind);
  struct Ending {
    std::string_view text;
    Phase phase;
  };
  constexpr std::array kEndings = {Ending{"(F)", Phase::kForward}, Ending{"(B)", Phase::kBackward},
                                   Ending{"(I)", Phase::kBackward}, Ending{"(W)", Phase::kWeightGradient}};
  for (const Ending& one : kEndings) {
    if (name.ends_with(one.text)) return one.phase;
  }
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.starts_with("optimizer.")) return Phase::kOther;
  if (lower.starts_with("backward")) return Phase::kBackward;
  if (lower.starts_with("forward")) return Phase::kForward;
  return std::nullopt;
}

std::vector<Launch> find_launches(const ChromeEvents& trace) {
  const auto ranges = ranges_of(trace);
  const auto backward = backward_threads(trace);
  std::vector<Launch> launches(trace.events.size());
  std::vector<std::size_t> open;  // of ranges, those that have begun and not ended
  std::size_t next = 0;
  for (const Start& start : starts_of(trace)) {
    for (; next < ranges.size() && trace.events[ranges[next].first].begin <= start.time; ++next)
      open.push_back(next);
    std::erase_if(open,
                  [&](std::size_t range) { return trace.events[ranges[range].first].end < start.time; });
    Launch& launch = launches[start.kernel];
    if (backward.contains(start.thread)) launch.phase = Phase::kBackward;
    if (open.empty()) continue;
    const auto& [event, phase] = ranges[open.back()];
    launch.range = static_cast<std::int32_t>(event);
    // Within a pair autograd's thread tells which of the two it was.
    if (phase != Phase::kPair) launch.phase = phase;
  }
  return launches;
}

}  // namespace counterflow
