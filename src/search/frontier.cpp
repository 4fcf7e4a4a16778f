#include "counterflow/frontier.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "counterflow/error.h"
#include "counterflow/simulate.h"
#include "family.h"

namespace counterflow {
namespace {

using searching::Family;

bool counts_bytes(const CostModel& costs) {
  const std::vector<StageCost>& stages = costs.layers.empty() ? costs.stages : costs.layers;
  return std::any_of(stages.begin(), stages.end(),
                     [](const StageCost& stage) { return stage.activation_bytes > 0; });
}

std::int64_t divided_up(std::int64_t value, std::int64_t parts) {
  return value / parts + (value % parts != 0 ? 1 : 0);
}

FrontierPoint point_of(SearchResult result, bool in_bytes) {
  FrontierPoint point;
  const Simulation run = simulate(result.schedule, result.costs);
  point.activations = result.families[result.family].peak_activations;
  if (in_bytes) {
    for (const RankResult& rank : run.ranks)
      point.bytes =
          std::max(point.bytes, rank.static_bytes + rank.peak_activation_bytes + rank.receive_bytes);
    point.bytes = divided_up(point.bytes, result.parts);
  }
  point.result = std::move(result);
  return point;
}

/// The request's unit of memory up to which a point goes.
std::int64_t memory_of(const FrontierPoint& point, bool in_bytes) {
  return in_bytes ? point.bytes : divided_up(point.activations.value, point.activations.parts);
}

bool needs_less(const FrontierPoint& a, const FrontierPoint& b, bool in_bytes) {
  if (in_bytes) return a.bytes < b.bytes;
  return a.activations < b.activations;
}

std::int64_t least_bytes(const StageCost& cost) {
  return cost.parameter_bytes + cost.gradient_bytes + cost.optimizer_bytes + cost.activation_bytes;
}

/// What any schedule needs at least: each stage of a rank holds one activation at some time.
std::int64_t least_memory(const SearchRequest& request, bool in_bytes) {
  if (!in_bytes) return 1;
  if (!request.costs.layers.empty()) {
    std::int64_t sum = 0;
    for (const StageCost& layer : request.costs.layers) sum += least_bytes(layer);
    return std::max<std::int64_t>(1, sum / request.ranks);
  }
  std::vector<SearchFamily> refused;
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const Family& family : searching::families_of(request, refused)) {
    std::int64_t most = 0;
    for (int rank = 0; rank < family.placement.num_ranks(); ++rank) {
      std::int64_t bytes = 0;
      for (const std::int32_t stage : family.placement.stages_on(rank))
        bytes += least_bytes(family.costs.stage(stage));
      most = std::max(most, bytes);
    }
    least = std::min(least, most / family.parts);
  }
  return std::max<std::int64_t>(1, least);
}

/// Up to `count` numbers from `least` to below `most`, the largest first, each by about the same factor less.
std::vector<std::int64_t> limits_between(std::int64_t least, std::int64_t most, int count) {
  std::vector<std::int64_t> limits;
  const double ratio = static_cast<double>(least) / static_cast<double>(most);
  for (int i = 1; i <= count; ++i) {
    const double limit = static_cast<double>(most) * std::pow(ratio, static_cast<double>(i) / count);
    limits.push_back(std::clamp<std::int64_t>(std::llround(limit), least, std::max(least, most - 1)));
  }
  limits.erase(std::unique(limits.begin(), limits.end()), limits.end());
  return limits;
}

/// Those that none of the others is better than, by memory.
void keep_best(std::vector<FrontierPoint>& points, bool in_bytes) {
  std::stable_sort(points.begin(), points.end(), [&](const FrontierPoint& a, const FrontierPoint& b) {
    if (needs_less(a, b, in_bytes)) return true;
    return !needs_less(b, a, in_bytes) && a.result.makespan < b.result.makespan;
  });
  std::vector<FrontierPoint> kept;
  for (FrontierPoint& point : points) {
    if (kept.empty() || point.result.makespan < kept.back().result.makespan) kept.push_back(std::move(point));
  }
  points = std::move(kept);
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Frontier search_frontier(const SearchRequest& request, int limits) {
  if (limits < 1)
    throw InvalidConfig("limits of a frontier: expected 1 or more, found " + std::to_string(limits));
  const auto begin = std::chrono::steady_clock::now();
  Frontier frontier;
  frontier.in_bytes = counts_bytes(request.costs);
  SearchRequest one = request;
  one.seconds = request.seconds / limits;
  frontier.points.push_back(point_of(search(one), frontier.in_bytes));

  const std::int64_t most = memory_of(frontier.points[0], frontier.in_bytes);
  const std::int64_t least = least_memory(request, frontier.in_bytes);
  const std::vector<std::int64_t> lower =
      least < most ? limits_between(least, most, limits - 1) : std::vector<std::int64_t>{};
  for (std::size_t i = 0; i < lower.size(); ++i) {
    if (frontier.in_bytes) {
      one.costs.memory_bytes = lower[i];
      one.costs.memory_of_rank = request.costs.memory_of_rank;
      for (std::int64_t& bytes : one.costs.memory_of_rank)
        bytes = bytes == 0 ? lower[i] : std::min(bytes, lower[i]);
    } else {
      one.max_activations = lower[i];
    }
    // What others left of their time is for those to come.
    const double left = std::max(0.0, request.seconds - seconds_since(begin));
    one.seconds = left / static_cast<double>(lower.size() - i);
    try {
      frontier.points.push_back(point_of(search(one), frontier.in_bytes));
    } catch (const InvalidConfig&) {
      break;  // nothing fits so little, and less comes next
    }
  }
  keep_best(frontier.points, frontier.in_bytes);
  return frontier;
}

}  // namespace counterflow
