#include "counterflow/runtime/profile.h"

#include <algorithm>
#include <string>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

/// Of nanoseconds, in microseconds, at least 1 where there was anything.
Time median_us(std::vector<Time> times) {
  if (times.empty()) return 0;
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return std::max<Time>(1, (*middle + 500) / 1000);
}

}  // namespace

void Profile::add(const Timeline& step) {
  const Time unit = std::max<std::int64_t>(1, step.unit_ns);
  stages_.resize(std::max<std::size_t>(stages_.size(), step.placement.num_stages()));
  for (const RankTimeline& rank : step.ranks) {
    for (const Bar& bar : rank.bars) {
      const Time time = bar.duration() * unit;
      const auto passes = bar.action.passes();
      if (bar.action.is_overlap()) {
        overlaps_[{passes[0].stage, passes[1].stage}].push_back(time);
        continue;
      }
      StageTimes& stage = stages_.at(passes[0].stage);
      switch (passes[0].kind) {
        case PassKind::kForward:
          stage.f.push_back(time);
          break;
        case PassKind::kBackward:
          stage.b.push_back(time);
          break;
        case PassKind::kInputGradient:
          stage.i.push_back(time);
          break;
        case PassKind::kWeightGradient:
          stage.w.push_back(time);
          break;
      }
    }
  }
}

CostModel Profile::costs() const {
  CostModel costs;
  costs.stages.clear();
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    const StageTimes& times = stages_[s];
    const bool has_split = !times.i.empty() && !times.w.empty();
    if (times.f.empty() || (!has_split && times.b.empty()))
      throw InvalidConfig("no " + std::string(times.f.empty() ? "forward" : "backward") + " of stage " +
                          std::to_string(s) + " was recorded by itself");
    StageCost cost;
    cost.f = median_us(times.f);
    if (has_split) {
      cost.i = median_us(times.i);
      cost.w = median_us(times.w);
    } else {
      const Time b = median_us(times.b);
      cost.i = b / 2;
      cost.w = b - b / 2;
    }
    costs.stages.push_back(cost);
  }
  for (const auto& [stages, times] : overlaps_) costs.overlaps[stages] = median_us(times);
  return costs;
}

}  // namespace counterflow::runtime
