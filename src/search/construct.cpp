#include "construct.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "evaluate.h"

namespace counterflow::searching {
namespace {

/// What every rank needs to keep free so that a forward never blocks those after it: with an activation of
/// each later stage of the rank in reserve, the micro-batch that has come furthest can always go on.
struct Reserve {
  std::int64_t activations = 0;
  std::int64_t bytes = 0;
};

Reserve reserve_after(const Problem& problem, int rank, int local) {
  Reserve reserve;
  const auto& stages = problem.stages_on(rank);
  for (std::size_t later = local + 1; later < stages.size(); ++later) {
    ++reserve.activations;
    reserve.bytes += problem.type(problem.forward(stages[later])).rise_bytes;
  }
  return reserve;
}

class Construction {
 public:
  Construction(const Problem& problem, const Preferences& preferences, Random& random)
      : problem_(problem), preferences_(preferences), random_(random) {
    const int num_ranks = problem.num_ranks();
    arrival_.resize(problem.num_hops() + 1);
    arrival_[0].assign(problem.num_micro_batches(), 0);
    done_.resize(problem.num_hops(), 0);
    channel_free_.resize(problem.num_channels(), 0);
    order_.resize(num_ranks);
    ranks_.resize(num_ranks);
    for (int stage = 0; stage < problem.num_stages(); ++stage)
      unit_ += static_cast<double>(duration(problem.forward(stage))) / problem.num_stages();
    for (int rank = 0; rank < num_ranks; ++rank) prepare(rank);
  }

  Order run() {
    for (int rank = 0; rank < problem_.num_ranks(); ++rank) choose(rank);
    while (true) {
      int next = -1;
      for (int rank = 0; rank < problem_.num_ranks(); ++rank) {
        if (ranks_[rank].start < kNever && (next < 0 || ranks_[rank].start < ranks_[next].start)) next = rank;
      }
      if (next < 0) return std::move(order_);
      take(next);
    }
  }

 private:
  struct RankState {
    Time free = 0;
    std::int64_t held = 0;
    std::int64_t bytes = 0;
    std::int64_t room = 0;              // activations that forwards may fill
    std::vector<Reserve> reserve;       // [local stage]
    std::vector<std::int32_t> lacking;  // [local stage]: Is without W
    std::int64_t num_lacking = 0;
    Step step = 0;  // chosen
    Time start = kNever;
  };

  struct Option {
    Step step = 0;
    Time start = kNever;
    Time judged = kNever;
    double rank = 0;  // the higher the better

    bool exists() const { return start < kNever; }
  };

  Time duration(Step step) const { return problem_.type(step).duration; }

  void prepare(int rank) {
    RankState& state = ranks_[rank];
    const auto stages = static_cast<std::int64_t>(problem_.stages_on(rank).size());
    state.lacking.resize(stages, 0);
    for (int local = 0; local < stages; ++local)
      state.reserve.push_back(reserve_after(problem_, rank, local));
    const std::int64_t most =
        std::min(problem_.limits(rank).activations, stages * problem_.num_micro_batches());
    state.room =
        stages + static_cast<std::int64_t>(std::llround(
                     preferences_.room * static_cast<double>(std::max<std::int64_t>(0, most - stages))));
  }

  /// The next input of a hop, if it has been sent.
  Option next_of(int hop, Step step) {
    const auto k = static_cast<std::size_t>(done_[hop]);
    Option option;
    if (k >= arrival_[hop].size()) return option;
    option.step = step;
    option.start = arrival_[hop][k];
    option.judged = option.start;
    if (preferences_.noise > 0) option.judged += std::llround(random_.uniform() * preferences_.noise * unit_);
    return option;
  }

  bool has_room(const RankState& state, const StepType& forward) const {
    const Reserve& reserve = state.reserve[forward.forward];
    const Limits& limits = problem_.limits(problem_.rank_of_hop(forward.hop));
    return state.held + forward.rise + reserve.activations <= state.room &&
           state.bytes + forward.rise_bytes + reserve.bytes <= limits.bytes;
  }

  Option best_forward(int rank) {
    Option best;
    const auto& stages = problem_.stages_on(rank);
    for (std::size_t local = 0; local < stages.size(); ++local) {
      const Step step = problem_.forward(stages[local]);
      if (!has_room(ranks_[rank], problem_.type(step))) continue;
      keep_better(best, next_of(stages[local], step), preferences_.deep_forwards, rank);
    }
    return best;
  }

  Option best_gradient(int rank) {
    Option best;
    const auto& stages = problem_.stages_on(rank);
    for (std::size_t local = 0; local < stages.size(); ++local) {
      const StepType& input = problem_.type(problem_.input_gradient(stages[local]));
      const bool splits = ranks_[rank].bytes + input.rise_bytes <= problem_.limits(rank).bytes;
      const Step step = splits ? problem_.input_gradient(stages[local]) : problem_.backward(stages[local]);
      keep_better(best, next_of(input.hop, step), preferences_.deep_gradients, rank);
    }
    return best;
  }

  /// Options come with ascending stages.
  void keep_better(Option& best, const Option& option, bool deep, int rank) const {
    if (!option.exists()) return;
    const Time free = ranks_[rank].free;
    const auto patience = std::llround(preferences_.patience * unit_);
    const Time now = std::max(free, option.judged);
    if (!best.exists()) {
      best = option;
    } else {
      const Time before = std::max(free, best.judged);
      if (deep ? now <= before + patience : now + patience < before) best = option;
    }
  }

  /// What the rank does next, as far as can be seen now.
  void choose(int rank) {
    RankState& state = ranks_[rank];
    state.start = kNever;
    const Option forward = best_forward(rank);
    const Option gradient = best_gradient(rank);
    Option chosen = first_of(forward, gradient, state);
    const Option pair = pair_of(forward, gradient, state);
    if (pair.exists()) chosen = pair;
    if (const Option weight = weight_before(rank, chosen); weight.exists()) chosen = weight;
    state.step = chosen.step;
    if (chosen.exists()) state.start = std::max(state.free, chosen.start);
  }

  Option first_of(const Option& forward, const Option& gradient, const RankState& state) const {
    if (!forward.exists()) return gradient;
    if (!gradient.exists()) return forward;
    const Time forward_start = std::max(state.free, forward.judged);
    const Time gradient_start = std::max(state.free, gradient.judged);
    const auto patience = std::llround(preferences_.patience * unit_);
    if (preferences_.forward_first) return forward_start <= gradient_start + patience ? forward : gradient;
    return gradient_start <= forward_start + patience ? gradient : forward;
  }

  Option pair_of(const Option& forward, const Option& gradient, const RankState& state) const {
    Option pair;
    if (!forward.exists() || !gradient.exists()) return pair;
    const StepType& f = problem_.type(forward.step);
    const StepType& g = problem_.type(gradient.step);
    const Step step = problem_.pair(problem_.stage(f), problem_.gradient_stage(g));
    if (!problem_.pays(step)) return pair;
    const Time first = std::max(state.free, std::min(forward.judged, gradient.judged));
    const Time both = std::max({state.free, forward.judged, gradient.judged});
    if (static_cast<double>(both - first) > preferences_.pair_patience * unit_) return pair;
    pair = {step, std::max(forward.start, gradient.start), both, 0};
    return pair;
  }

  /// A W, where there is time for it before the next step or too many have been put off.
  Option weight_before(int rank, const Option& next) const {
    const RankState& state = ranks_[rank];
    Option weight;
    if (state.num_lacking == 0) return weight;
    const auto& stages = problem_.stages_on(rank);
    for (std::size_t local = 0; local < stages.size(); ++local) {
      if (state.lacking[local] == 0) continue;
      const Step step = problem_.weight_gradient(stages[local]);
      const auto needed = static_cast<Time>(preferences_.gap * static_cast<double>(duration(step)));
      const bool fits = !next.exists() || next.judged >= state.free + needed;
      if (fits || state.num_lacking > preferences_.most_weights) return {step, state.free, state.free, 0};
    }
    return weight;
  }

  void take(int rank) {
    RankState& state = ranks_[rank];
    const StepType& type = problem_.type(state.step);
    order_[rank].push_back(state.step);
    state.free = state.start + type.duration;
    state.held += type.change;
    state.bytes += type.change_bytes;
    if (type.kind == StepType::Kind::kInputGradient) {
      ++state.lacking[type.gradient];
      ++state.num_lacking;
    } else if (type.kind == StepType::Kind::kWeightGradient) {
      --state.lacking[type.gradient];
      --state.num_lacking;
    }
    choose_after(type.hop, state.free, rank);
    choose_after(type.second_hop, state.free, rank);
    choose(rank);
  }

  /// Sends what a hop puts out, and lets who gets it choose again.
  void choose_after(int hop, Time end, int rank) {
    if (hop < 0) return;
    ++done_[hop];
    const Problem::Transfer& transfer = problem_.transfer(hop);
    Time arrival = end + transfer.delay;
    if (transfer.channel >= 0) {
      Time& free = channel_free_[transfer.channel];
      arrival = free = std::max(end, free) + transfer.delay;
    }
    arrival_[hop + 1].push_back(arrival);
    if (hop + 1 == problem_.num_hops()) return;
    const int next = problem_.rank_of_hop(hop + 1);
    if (next != rank) choose(next);
  }

  const Problem& problem_;
  const Preferences& preferences_;
  Random& random_;
  double unit_ = 0;
  std::vector<std::vector<Time>> arrival_;  // [hop]: of the inputs sent so far
  std::vector<std::int32_t> done_;          // [hop]
  std::vector<Time> channel_free_;
  std::vector<RankState> ranks_;
  Order order_;
};

}  // namespace

Preferences random_preferences(Random& random) {
  const auto one_of = [&](std::initializer_list<double> values) {
    return values.begin()[random.below(static_cast<int>(values.size()))];
  };
  Preferences preferences;
  preferences.room = one_of({1, 1, 1, 0.75, 0.5, 0.3, random.uniform()});
  preferences.forward_first = random.below(2) == 0;
  preferences.deep_forwards = random.below(4) != 0;
  preferences.deep_gradients = random.below(2) == 0;
  preferences.patience = one_of({0, 0, 0.5, 1, 2});
  preferences.pair_patience = one_of({0, 0.5, 1, 2, 4});
  preferences.most_weights = static_cast<int>(one_of({0, 1, 2, 4, 8, 1 << 20, 1 << 20, 1 << 20}));
  preferences.gap = one_of({1, 1, 0.5, 0.01});
  preferences.noise = one_of({0, 0, 0.5, 1});
  return preferences;
}

std::string why_infeasible(const Problem& problem) {
  for (int rank = 0; rank < problem.num_ranks(); ++rank) {
    const auto stages = static_cast<std::int64_t>(problem.stages_on(rank).size());
    const Limits& limits = problem.limits(rank);
    std::int64_t bytes = 0;
    for (const std::int32_t stage : problem.stages_on(rank))
      bytes += problem.type(problem.forward(stage)).rise_bytes;
    const std::string where = "rank " + std::to_string(rank) + " holds at least ";
    if (stages > limits.activations)
      return where + std::to_string(stages) + " stage activations, more than " +
             std::to_string(limits.activations);
    if (bytes > limits.bytes) {
      return where + std::to_string(bytes) + " bytes of activations, and has " +
             std::to_string(std::max<std::int64_t>(0, limits.bytes)) + " left for them";
    }
  }
  return {};
}

Order construct(const Problem& problem, const Preferences& preferences, Random& random) {
  return Construction(problem, preferences, random).run();
}

}  // namespace counterflow::searching
