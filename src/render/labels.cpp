#include "labels.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>

#include "counterflow/error.h"
#include "counterflow/format.h"

namespace counterflow {
namespace {

std::string with_digits(double value, const char* unit) {
  const int decimals = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3;
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f %s", decimals, value, unit);
  return text.data();
}

Time scaled(Time time, std::int64_t factor) {
  constexpr Time kMost = Time{1} << 62;
  if (time > kMost / factor)
    throw InvalidConfig("render: times of " + std::to_string(time) + " cannot be put into nanoseconds");
  return time * factor;
}

void scale(Timeline& timeline, std::int64_t factor) {
  for (IdleSplit& rank : timeline.idle) {
    for (Time* time : {&rank.busy, &rank.waiting, &rank.transfer, &rank.launch_gap, &rank.imbalance})
      *time = scaled(*time, factor);
  }
  for (RankTimeline& rank : timeline.ranks) {
    for (Bar& bar : rank.bars) {
      bar.begin = scaled(bar.begin, factor);
      bar.end = scaled(bar.end, factor);
    }
    for (ActivationSample& sample : rank.activations) sample.time = scaled(sample.time, factor);
  }
  for (LinkTimeline& link : timeline.links) {
    for (Transfer& transfer : link.transfers) {
      transfer.begin = scaled(transfer.begin, factor);
      transfer.end = scaled(transfer.end, factor);
    }
  }
}

}  // namespace

Shades::Shades(const Placement& placement) : placement_(placement) {
  for (int direction = 0; direction < placement.num_directions(); ++direction) {
    for (int rank = 0; rank < placement.num_ranks(); ++rank)
      most_stages_ = std::max(most_stages_, static_cast<int>(placement.stages_on(rank, direction).size()));
  }
}

int Shades::count() const {
  return std::min(range(), kMost);
}

Shade Shades::of(const Pass& pass) const {
  const int direction = placement_.direction_of(pass.micro_batch);
  int index = direction;
  if (placement_.num_directions() == 1) {
    const auto stages = placement_.stages_on(placement_.rank_of(pass.stage, pass.micro_batch), direction);
    index = static_cast<int>(std::lower_bound(stages.begin(), stages.end(), pass.stage) - stages.begin());
  }
  if (range() > kMost) index = static_cast<int>(std::int64_t{index} * kMost / range());
  return {index, count()};
}

bool Shades::needs_stage(int shades) const {
  return most_stages_ > (placement_.num_directions() > 1 ? 1 : shades);
}

std::string format_time(Time time, std::int64_t unit_ns) {
  if (unit_ns == 0) return std::to_string(time);
  const double ns = static_cast<double>(time) * static_cast<double>(unit_ns);
  if (ns < 1e3) return std::to_string(static_cast<std::int64_t>(ns)) + " ns";
  if (ns < 1e6) return with_digits(ns / 1e3, "us");
  if (ns < 1e9) return with_digits(ns / 1e6, "ms");
  return with_digits(ns / 1e9, "s");
}

std::string format_bytes(std::int64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1000 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f %s", value >= 100 ? 0 : 1, value, kUnits[unit]);
  return text.data();
}

std::string format_ratio(double ratio) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", 100 * ratio);
  return text.data();
}

std::string title(const Timeline& timeline) {
  return timeline.name.empty() ? "schedule" : printable(timeline.name);
}

std::vector<std::string> distinct_titles(std::span<const Timeline> timelines) {
  std::vector<std::string> names;
  for (const Timeline& timeline : timelines) {
    const std::string name = title(timeline);
    std::string unique = name;
    for (int count = 2; std::find(names.begin(), names.end(), unique) != names.end(); ++count)
      unique = name + " (" + std::to_string(count) + ")";
    names.push_back(unique);
  }
  return names;
}

std::string describe(const Timeline& timeline) {
  std::int32_t peak = 0;
  for (const RankSummary& rank : summarize(timeline)) peak = std::max(peak, rank.peak_activations);
  const auto plural = [](std::int64_t count, const std::string& noun, const std::string& ending) {
    return std::to_string(count) + " " + noun + (count == 1 ? "" : ending);
  };
  return plural(timeline.placement.num_ranks(), "rank", "s") + ", " +
         plural(timeline.placement.num_micro_batches(), "micro-batch", "es") + ", makespan " +
         format_time(timeline.end(), timeline.unit_ns) + ", bubble " + format_ratio(bubble_ratio(timeline)) +
         ", at most " + plural(peak, "activation", "s");
}

std::vector<std::string> describe_directions(const Placement& placement) {
  std::vector<std::string> lines;
  if (placement.num_directions() < 2) return lines;
  for (const Direction& direction : placement.directions()) {
    if (direction.num_micro_batches == 0 || direction.rank_of_stage.empty()) continue;
    lines.push_back("micro-batches " + std::to_string(direction.first_micro_batch) + "-" +
                    std::to_string(direction.first_micro_batch + direction.num_micro_batches - 1) +
                    " go from rank " + std::to_string(direction.rank_of_stage.front()) + " to rank " +
                    std::to_string(direction.rank_of_stage.back()));
  }
  return lines;
}

Time round_step(Time unit, double least) {
  double step = static_cast<double>(unit);
  while (10 * step < least) step *= 10;
  for (const int factor : {1, 2, 5}) {
    if (factor * step >= least) return static_cast<Time>(factor * step);
  }
  return static_cast<Time>(10 * step);
}

Kinds kinds_of(std::span<const Timeline> timelines) {
  Kinds kinds;
  for (const Timeline& timeline : timelines) {
    for (const RankTimeline& rank : timeline.ranks) {
      for (const Bar& bar : rank.bars) {
        for (const Pass& pass : bar.action.passes()) kinds.passes[static_cast<std::size_t>(pass.kind)] = true;
        kinds.overlap |= bar.action.is_overlap();
      }
    }
  }
  return kinds;
}

const char* name_of(PassKind kind) {
  constexpr std::array kNames = {"forward", "backward", "input gradient", "weight gradient"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::vector<Timeline> in_one_unit(std::span<const Timeline> timelines) {
  constexpr std::int64_t kAbstractUnitNs = 1000;
  std::vector<Timeline> same(timelines.begin(), timelines.end());
  const auto first = timelines.empty() ? 0 : timelines[0].unit_ns;
  if (std::all_of(same.begin(), same.end(), [&](const Timeline& one) { return one.unit_ns == first; }))
    return same;
  std::int64_t common = 0;
  for (Timeline& one : same) {
    if (one.unit_ns == 0) one.unit_ns = kAbstractUnitNs;
    common = std::gcd(common, one.unit_ns);
  }
  for (Timeline& one : same) {
    scale(one, one.unit_ns / common);
    one.unit_ns = common;
  }
  return same;
}

}  // namespace counterflow
