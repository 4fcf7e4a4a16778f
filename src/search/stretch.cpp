#include "stretch.h"

#include <algorithm>

#include "evaluate.h"

namespace counterflow::searching {
namespace {

/// Part of a rank's list, from `begin` to before `end`.
struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// The shortest range from `begin` on in which every stage of the rank has its passes of `count`
/// micro-batches.
std::optional<Range> range_of(const Problem& problem, int rank, const std::vector<Step>& steps,
                              std::size_t begin, int count) {
  const std::size_t num_stages = problem.stages_on(rank).size();
  std::vector<int> left(3 * num_stages, count);  // forwards, gradients, Ws
  std::size_t lacking = left.size();
  const auto take = [&](std::size_t index) {
    if (--left[index] == 0) --lacking;
    return left[index] >= 0;
  };
  for (std::size_t position = begin; position < steps.size(); ++position) {
    const StepType& type = problem.type(steps[position]);
    bool within = true;
    if (type.has_forward()) within = take(type.forward);
    if (type.has_gradient()) within = within && take(num_stages + type.gradient);
    if (type.has_weight()) within = within && take(2 * num_stages + type.gradient);
    if (!within) return std::nullopt;
    if (lacking == 0) return Range{begin, position + 1};
  }
  return std::nullopt;
}

}  // namespace

std::optional<Order> stretch(const Problem& shorter, const Order& order, const Problem& longer) {
  const int more = longer.num_micro_batches() - shorter.num_micro_batches();
  std::vector<std::vector<Time>> starts(order.size());
  const Time makespan = Evaluator(shorter).walk(order, [&](int rank, std::size_t, const StepType&, Time start,
                                                           Time) { starts[rank].push_back(start); });
  Evaluator evaluator(longer);
  std::optional<Order> best;
  Time best_makespan = kNever;
  // Which stretch repeats best cannot be seen from one rank: tries many places, and one to three
  // micro-batches.
  constexpr int kPlaces = 48;
  for (int place = kPlaces / 6; place < kPlaces; ++place) {
    const Time from = makespan * place / kPlaces;
    for (int count = 1; count <= 3; ++count) {
      if (more % count != 0) continue;
      Order longer_order;
      for (int rank = 0; rank < shorter.num_ranks(); ++rank) {
        const std::vector<Step>& steps = order[rank];
        const auto begin = static_cast<std::size_t>(
            std::lower_bound(starts[rank].begin(), starts[rank].end(), from) - starts[rank].begin());
        const std::optional<Range> range = range_of(shorter, rank, steps, begin, count);
        if (!range) break;
        std::vector<Step>& list = longer_order.emplace_back();
        list.reserve(steps.size() + (range->end - range->begin) * static_cast<std::size_t>(more / count));
        const auto at = [&](std::size_t position) {
          return steps.begin() + static_cast<std::ptrdiff_t>(position);
        };
        list.assign(steps.begin(), at(range->end));
        for (int times = 0; times < more / count; ++times)
          list.insert(list.end(), at(range->begin), at(range->end));
        list.insert(list.end(), at(range->end), steps.end());
      }
      if (static_cast<int>(longer_order.size()) < shorter.num_ranks()) continue;
      const Time time = evaluator.evaluate(longer_order);
      if (time < best_makespan && fits(longer, longer_order)) {
        best_makespan = time;
        best = std::move(longer_order);
      }
    }
  }
  return best;
}

}  // namespace counterflow::searching
