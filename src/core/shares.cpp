#include "shares.h"

#include <limits>
#include <string>

#include "counterflow/error.h"

namespace counterflow {
namespace {

std::int64_t times(std::int64_t value, std::int64_t factor) {
  if (value > std::numeric_limits<std::int64_t>::max() / factor) {
    throw InvalidConfig("costs: " + std::to_string(value) + " times " + std::to_string(factor) +
                        " stages a rank could pass 2^63; use a coarser unit");
  }
  return value * factor;
}

}  // namespace

CostModel cut_shares(const CostModel& shares, int num_shares, int parts) {
  CostModel costs = shares;
  if (shares.stages.size() > 1) {
    costs.stages.clear();
    for (int stage = 0; stage < num_shares * parts; ++stage)
      costs.stages.push_back(shares.stages[stage / parts]);
  }
  for (StageCost& stage : costs.stages) stage.output_bytes = times(stage.output_bytes, parts);
  costs.overlaps.clear();
  for (const auto& [pair, time] : shares.overlaps) {
    for (int forward = 0; forward < parts; ++forward) {
      for (int backward = 0; backward < parts; ++backward)
        costs.overlaps[{pair.first * parts + forward, pair.second * parts + backward}] = time;
    }
  }
  costs.p2p = times(shares.p2p, parts);
  if (costs.link) costs.link->latency = times(costs.link->latency, parts);
  for (auto& [pair, link] : costs.link_of) link.latency = times(link.latency, parts);
  return costs;
}

}  // namespace counterflow
