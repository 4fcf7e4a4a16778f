// Costs of a model from timelines of steps, for simulate() and `counterflow simulate --costs`.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/timeline.h"

namespace counterflow::runtime {

/// Collects recorded steps, of any schedules of the same stages. A plain value.
class Profile {
 public:
  /// Adds a step's times (Pipeline::timeline()). Steps recorded with split_backward tell I and W apart; where
  /// there are none, each takes half of B.
  void add(const Timeline& step);

  /// For every stage the medians over all steps and micro-batches, in microseconds, and for every pair of
  /// stages that were overlapped the same. Bytes are not known (0). Throws InvalidConfig where a stage has no
  /// forward or no backward.
  CostModel costs() const;

 private:
  struct StageTimes {
    std::vector<Time> f, i, w, b;
  };
  std::vector<StageTimes> stages_;
  std::map<std::pair<std::int32_t, std::int32_t>, std::vector<Time>> overlaps_;
};

}  // namespace counterflow::runtime
