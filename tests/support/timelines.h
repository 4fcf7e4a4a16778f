// Timelines of every generator at several sizes and costs, to try the views on.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/generated_sizes.h"
#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "counterflow/timeline.h"

namespace counterflow::testing {

inline Timeline timeline_of(const Schedule& schedule, const CostModel& costs) {
  return make_timeline(schedule, costs, simulate(schedule, costs));
}

/// timeline_of("dualpipe", {8, 20}, "f=1,i=1,w=1,fb=3")
inline Timeline timeline_of(std::string_view generator, Size size, std::string_view cost = "", Time p2p = 0) {
  return timeline_of(generate(generator, size),
                     {cost.empty() ? UniformCost{} : parse_uniform_cost(cost), p2p});
}

/// Small sizes of a generator, and two of 10 ranks and more.
inline std::vector<Size> sizes_to_draw(const Generator& generator) {
  std::vector<Size> sizes = small_sizes(generator);
  const std::vector<Size> large = large_sizes(generator);
  if (large.size() > 1) sizes.insert(sizes.end(), {large[large.size() * 2 / 3], large.back()});
  return sizes;
}

/// Calls check(timeline) under unit costs, and under costs that have no common divisor, with transfers.
template <typename Check>
void for_each_timeline(Check&& check) {
  for (const Generator* generator : all_generators()) {
    const std::vector<Size> sizes = sizes_to_draw(*generator);
    ASSERT_GE(sizes.size(), 4U) << generator->name;
    for (const Size& size : sizes) {
      for (const CostModel& costs : {CostModel(parse_uniform_cost("f=1,i=1,w=1,fb=3")),
                                     CostModel(parse_uniform_cost("f=5,i=6,w=4"), 2)}) {
        SCOPED_TRACE(std::string(generator->name) + " " + std::to_string(size.ranks) + "x" +
                     std::to_string(size.micro_batches) + " f=" + std::to_string(costs.stages[0].f));
        check(timeline_of(generate(*generator, size), costs));
      }
    }
  }
}

}  // namespace counterflow::testing
