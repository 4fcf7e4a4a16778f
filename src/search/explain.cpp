#include "explain.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>

#include "counterflow/simulate.h"
#include "starts.h"

namespace counterflow::searching {
namespace {

std::string percent(double share) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", 100 * share);
  return text.data();
}

std::string copies_text(int copies) {
  return copies == 2 ? "two copies of the parameters" : "one copy of the parameters";
}

std::string label(const SearchFamily& family) {
  std::string name(placement_kind_name(family.placement));
  if (family.placement != PlacementKind::kLoop) return name;
  return name + " of " + std::to_string(family.stages_per_rank) + " stages a rank";
}

std::string against_placements(const SearchResult& result) {
  const SearchFamily& winner = result.families[result.family];
  const SearchFamily* second = nullptr;
  for (const SearchFamily& other : result.families) {
    if (&other == &winner || !other.feasible) continue;
    if (second == nullptr || other.makespan < second->makespan) second = &other;
  }
  if (second == nullptr) return {};
  const double ahead = second->makespan.to_double() / result.makespan.to_double() - 1;
  std::string text = ahead > 0 ? label(winner) + " beats " + label(*second) + " by " + percent(ahead)
                               : label(winner) + " is as fast as " + label(*second);
  if (winner.copies != second->copies)
    text += ", with " + copies_text(winner.copies) + " instead of " + copies_text(second->copies);
  return text + ". ";
}

std::string against_generators(const SearchResult& result) {
  const SearchFamily* best = nullptr;
  for (const SearchFamily& family : result.families) {
    if (!family.feasible || family.best_known.empty()) continue;
    if (best == nullptr || family.best_known_makespan < best->best_known_makespan) best = &family;
  }
  if (best == nullptr) return "No generator's schedule fits. ";
  const double ahead = best->best_known_makespan.to_double() / result.makespan.to_double() - 1;
  if (ahead <= 0) return "Nothing better than " + best->best_known + " was found. ";
  return "The best of the generators, " + best->best_known + ", takes " + percent(ahead) + " longer. ";
}

/// A generator's schedule under costs that a pair's time is varied in.
struct Contender {
  std::string name;
  Schedule schedule;
  CostModel costs;
  int parts = 1;

  Fraction makespan() const { return {simulate(schedule, costs).makespan, parts}; }
};

bool has_pairs(const Schedule& schedule) {
  return std::any_of(schedule.actions.begin(), schedule.actions.end(), [](const auto& actions) {
    return std::any_of(actions.begin(), actions.end(), [](const Action& a) { return a.is_overlap(); });
  });
}

/// The best of the generators with (or without) pairs on the families with so many copies.
std::optional<Contender> best_of(const std::vector<Family>& families, int copies, bool with_pairs) {
  std::optional<Contender> best;
  std::optional<Fraction> best_makespan;
  for (const Family& family : families) {
    if (family.copies != copies) continue;
    for (Known& known : known_schedules(family)) {
      if (has_pairs(known.schedule) != with_pairs) continue;
      const Simulation run = simulate(known.schedule, family.costs);
      const Fraction makespan{run.makespan, family.parts};
      if (!family.allows(run) || (best_makespan && *best_makespan <= makespan)) continue;
      best_makespan = makespan;
      best = Contender{known.name, std::move(known.schedule), family.costs, family.parts};
    }
  }
  return best;
}

/// All times a hundred times as long, so that the time of a pair can be varied finely.
CostModel in_hundredths(CostModel costs) {
  constexpr Time kHundred = 100;
  for (StageCost& stage : costs.stages) {
    stage.f *= kHundred;
    stage.i *= kHundred;
    stage.w *= kHundred;
  }
  costs.p2p *= kHundred;
  return costs;
}

/// What the pairs of one have to gain, as a share of F + B, for it to beat a makespan; nothing where even
/// pairs that took no time would not do.
std::optional<double> needed_gain(Contender paired, const Fraction& makespan) {
  const StageCost stage = paired.costs.stages[0];
  paired.costs = in_hundredths(paired.costs);
  const Fraction to_beat{makespan.value * 100, makespan.parts};
  const Time most = 100 * (stage.f + stage.i + stage.w);
  const auto wins = [&](Time pair) {
    paired.costs.overlap = pair;
    return paired.makespan() < to_beat;
  };
  if (!wins(0)) return std::nullopt;
  Time longest = 0;  // pair that wins
  for (Time beyond = most + 1; beyond - longest > 1;) {
    const Time middle = longest + (beyond - longest) / 2;
    (wins(middle) ? longest : beyond) = middle;
  }
  return 1 - static_cast<double>(longest) / static_cast<double>(most);
}

/// Whether one time of a pair says it all, and may be varied.
bool has_one_pair_time(const CostModel& costs) {
  constexpr Time kMostTime = 1'000'000'000;
  const StageCost& stage = costs.stages[0];
  const Time passes = stage.f + stage.i + stage.w;
  return costs.stages.size() == 1 && costs.overlap && costs.overlaps.empty() && !costs.has_links() &&
         passes > 0 && *costs.overlap < passes && passes + costs.p2p < kMostTime;
}

std::string about_pairs(const std::vector<Family>& families, const SearchResult& result) {
  constexpr std::int64_t kMostForwards = 1 << 18;  // simulated many times, in about a second
  const Placement& placement = result.schedule.placement;
  if (std::int64_t{placement.num_stages()} * placement.num_micro_batches() > kMostForwards) return {};
  const CostModel& costs = families[0].costs;
  if (!has_one_pair_time(costs)) return {};
  const StageCost& stage = costs.stages[0];
  const double gain =
      1 - static_cast<double>(*costs.overlap) / static_cast<double>(stage.f + stage.i + stage.w);
  const int copies = result.families[result.family].copies;
  const auto paired = best_of(families, copies, true);
  const auto plain = best_of(families, copies, false);
  const std::string gains = "overlapping gains " + percent(gain) + " of F + B";
  if (!paired || !plain) return "Of the generators' schedules none to compare fits: " + gains + ".";
  const std::optional<double> needed = needed_gain(*paired, plain->makespan());
  const bool paired_wins = paired->makespan() < plain->makespan();
  const std::string& winner = paired_wins ? paired->name : plain->name;
  const std::string& loser = paired_wins ? plain->name : paired->name;
  return "Of the generators with " + copies_text(copies) + ", " + winner + " beats " + loser + ": " + gains +
         ", " + paired->name + (needed ? " needs " + percent(*needed) : " would not win whatever it gained") +
         ".";
}

}  // namespace

std::string explain(const std::vector<Family>& families, const SearchResult& result) {
  std::string text = against_placements(result) + against_generators(result) + about_pairs(families, result);
  while (text.ends_with(' ')) text.pop_back();
  return text;
}

}  // namespace counterflow::searching
