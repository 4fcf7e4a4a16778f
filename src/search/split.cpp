#include "split.h"

#include <algorithm>
#include <tuple>

#include "construct.h"
#include "counterflow/error.h"
#include "evaluate.h"
#include "starts.h"

namespace counterflow::searching {
namespace {

/// One stage gets a layer more and another one less; those between them are shifted.
bool move_layer(Split& split, int from, int to) {
  if (from == to || split[from] < 2) return false;
  --split[from];
  ++split[to];
  return true;
}

/// How evenly a split fills the ranks: the less the better.
struct Balance {
  std::int64_t too_many_bytes = 0;  // of parameters, and an activation of each stage, on all ranks
  Time longest = 0;                 // work of a rank for a micro-batch
  double squares = 0;

  friend bool operator<(const Balance& a, const Balance& b) {
    return std::tie(a.too_many_bytes, a.longest, a.squares) <
           std::tie(b.too_many_bytes, b.longest, b.squares);
  }
};

class Balancer {
 public:
  explicit Balancer(const Family& family) : placement_(family.placement) {
    for (int rank = 0; rank < placement_.num_ranks(); ++rank) memory_.push_back(family.costs.memory(rank));
    work_.push_back(0);
    bytes_.push_back(0);
    for (const StageCost& layer : family.costs.layers) {
      work_.push_back(work_.back() + layer.f + layer.i + layer.w);
      bytes_.push_back(bytes_.back() + layer.parameter_bytes + layer.gradient_bytes + layer.optimizer_bytes +
                       layer.activation_bytes);
    }
    for (int rank = 0; rank < placement_.num_ranks(); ++rank)
      stages_on_.push_back(placement_.stages_on(rank));
  }

  Balance of(const Split& split) {
    begin_.assign(1, 0);
    for (const int layers : split) begin_.push_back(begin_.back() + layers);
    Balance balance;
    for (std::size_t rank = 0; rank < stages_on_.size(); ++rank) {
      const std::vector<std::int32_t>& stages = stages_on_[rank];
      Time work = 0;
      std::int64_t bytes = 0;
      for (const std::int32_t stage : stages) {
        work += work_[begin_[stage + 1]] - work_[begin_[stage]];
        bytes += bytes_[begin_[stage + 1]] - bytes_[begin_[stage]];
      }
      if (memory_[rank] > 0) balance.too_many_bytes += std::max<std::int64_t>(0, bytes - memory_[rank]);
      balance.longest = std::max(balance.longest, work);
      balance.squares += static_cast<double>(work) * static_cast<double>(work);
    }
    return balance;
  }

  /// Stages of about the same work, each with a layer at least.
  Split even() const {
    const int stages = placement_.num_stages();
    const int layers = static_cast<int>(work_.size()) - 1;
    Split split;
    int layer = 0;
    for (int stage = 0; stage < stages; ++stage) {
      const int last = layers - (stages - 1 - stage);  // leaves one for each later stage
      const double share = static_cast<double>(work_.back()) * (stage + 1) / stages;
      int end = layer + 1;
      while (end < last && static_cast<double>(work_[end] + work_[end + 1]) / 2 <= share) ++end;
      if (stage + 1 == stages) end = layers;
      split.push_back(end - layer);
      layer = end;
    }
    return split;
  }

  /// Layers move as long as that evens out the ranks; where there are many stages, not far.
  Split balanced(const std::stop_token& stop) {
    constexpr int kMostPasses = 100;
    constexpr int kMostPairs = 40'000;
    Split best = even();
    Balance least = of(best);
    const int stages = placement_.num_stages();
    const int reach = std::max(1, kMostPairs / stages / 2);
    for (int pass = 0; pass < kMostPasses; ++pass) {
      bool better = false;
      for (int from = 0; from < stages && !stop.stop_requested(); ++from) {
        for (int to = std::max(0, from - reach); to < std::min(stages, from + reach + 1); ++to) {
          Split split = best;
          if (!move_layer(split, from, to)) continue;
          const Balance balance = of(split);
          if (!(balance < least)) continue;
          least = balance;
          best = std::move(split);
          better = true;
        }
      }
      if (!better) break;
    }
    return best;
  }

 private:
  const Placement& placement_;
  std::vector<std::int64_t> memory_;  ///< [rank]; 0: without limit
  std::vector<Time> work_;            // of the layers before each
  std::vector<std::int64_t> bytes_;
  std::vector<std::vector<std::int32_t>> stages_on_;  // [rank]
  std::vector<int> begin_;
};

/// What a split is worth: the best makespan that is quickly found.
class Trial {
 public:
  explicit Trial(const Family& family)
      : family_(family), model_(family.costs), known_(known_schedules(family)) {}

  Time makespan(const Split& split) {
    constexpr int kConstructions = 6;
    family_.costs = stages_of(model_, family_.placement, split);
    const Problem problem = family_.problem(std::vector<std::int64_t>(family_.placement.num_ranks(), 0));
    if (!why_infeasible(problem).empty()) return kNever;
    Time best = kNever;
    for (const Known& known : known_) {
      const Simulation run = simulate(known.schedule, family_.costs);
      if (family_.allows(run)) best = std::min(best, run.makespan);
    }
    Evaluator evaluator(problem);
    Random random(1);
    for (int i = 0; i < kConstructions; ++i) {
      const Preferences preferences = i == 0 ? Preferences{} : random_preferences(random);
      best = std::min(best, evaluator.evaluate(construct(problem, preferences, random)));
    }
    return best;
  }

 private:
  Family family_;
  CostModel model_;
  std::vector<Known> known_;
};

}  // namespace

Split changed(const Split& split, Random& random) {
  const int stages = static_cast<int>(split.size());
  const int from = random.below(stages);
  // Mostly to a neighbour.
  const int to = random.below(2) == 0 ? random.below(stages) : from + (random.below(2) == 0 ? 1 : -1);
  Split other = split;
  if (to >= 0 && to < stages) move_layer(other, from, to);
  return other;
}

void choose_split(Family& family, const std::stop_token& stop) {
  family.model = family.costs;
  Split best = Balancer(family).balanced(stop);
  Trial trial(family);
  Time least = trial.makespan(best);
  const std::int64_t steps =
      std::int64_t{3} * family.placement.num_stages() * family.placement.num_micro_batches();
  Random random(1);
  for (std::int64_t left = std::clamp<std::int64_t>(1'500'000 / steps, 8, 600); left > 0; --left) {
    if (stop.stop_requested()) break;
    Split split = changed(best, random);
    if (split == best) continue;
    const Time makespan = trial.makespan(split);
    if (makespan >= least) continue;
    least = makespan;
    best = std::move(split);
  }
  family.least_of_any_split = layers_bound(family.model, family.placement);
  family.costs = stages_of(family.model, family.placement, best);
  family.split = std::move(best);
}

}  // namespace counterflow::searching
