// Sets of times.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "counterflow/cost.h"

namespace counterflow {

/// From a begin to an end.
using Interval = std::pair<Time, Time>;

/// The same times as sorted intervals that do not touch.
inline std::vector<Interval> merged(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end());
  std::vector<Interval> result;
  for (const Interval& one : intervals) {
    if (!result.empty() && one.first <= result.back().second)
      result.back().second = std::max(result.back().second, one.second);
    else
      result.push_back(one);
  }
  return result;
}

/// Of merged intervals.
inline Time length(const std::vector<Interval>& intervals) {
  Time sum = 0;
  for (const Interval& one : intervals) sum += one.second - one.first;
  return sum;
}

/// The length of what two merged sets have in common.
inline Time common_length(const std::vector<Interval>& a, const std::vector<Interval>& b) {
  Time sum = 0;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    sum += std::max<Time>(0, std::min(a[i].second, b[j].second) - std::max(a[i].first, b[j].first));
    if (a[i].second < b[j].second)
      ++i;
    else
      ++j;
  }
  return sum;
}

}  // namespace counterflow
