#include "exact.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "evaluate.h"
#include "windows.h"

namespace counterflow::searching {
namespace {

using Kind = StepType::Kind;

/// 128 bits of what a state is made of: two different states with the same are not to be expected.
class Digest {
 public:
  void add(std::int64_t value) {
    low_ = mix(low_ ^ static_cast<std::uint64_t>(value));
    high_ = mix(high_ + static_cast<std::uint64_t>(value) * 0x9e3779b97f4a7c15U);
  }
  std::uint64_t low() const { return low_; }

  friend bool operator==(const Digest&, const Digest&) = default;

 private:
  // The finalizer of MurmurHash3 (public domain).
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 33)) * 0xff51afd7ed558ccdU;
    z = (z ^ (z >> 33)) * 0xc4ceb9fe1a85ec53U;
    return z ^ (z >> 33);
  }

  std::uint64_t low_ = 1;
  std::uint64_t high_ = 2;
};

struct DigestHash {
  std::size_t operator()(const Digest& digest) const { return digest.low(); }
};

/// Goes through time, from one event to the next; at each every rank that is free starts a step or stays
/// idle. A state that came up before, no earlier, and led nowhere is not looked at again.
class Search {
 public:
  Search(const Problem& problem, Time deadline, std::int64_t most_states, const std::stop_token& stop)
      : problem_(problem),
        deadline_(deadline),
        most_states_(most_states),
        stop_(stop),
        least_(least_times(problem)),
        tails_(least_tails(problem)),
        arrival_(problem.num_hops() + 1, std::vector<Time>(problem.num_micro_batches(), 0)),
        done_(problem.num_hops() + 1, 0),
        lacking_(problem.num_stages(), 0),
        options_(problem.num_ranks()),
        ranks_(problem.num_ranks()),
        order_(problem.num_ranks()) {
    done_[0] = problem.num_micro_batches();
    for (int rank = 0; rank < problem.num_ranks(); ++rank) prepare(rank);
  }

  Exact run() {
    const bool found = decide(0, 0);
    Exact exact;
    exact.num_states = num_states_;
    exact.answer = found ? Exact::Answer::kFound : gave_up_ ? Exact::Answer::kGaveUp : Exact::Answer::kNone;
    if (found) exact.order = order_;
    return exact;
  }

 private:
  static constexpr Time kAwake = -1;

  struct RankState {
    Time free = 0;
    Time idle_since = kAwake;
    Time idle_until = kNever;  // by then something that hinders nothing would have run in the idle time
    std::int64_t held = 0;
    std::int64_t steps_left = 0;  // passes: forwards, gradients and Ws
    Time work_left = 0;
    std::int64_t forwards_left = 0;
    std::int64_t gradients_left = 0;
    Time gain = 0;  // of a pair at most
  };

  void prepare(int rank) {
    RankState& state = ranks_[rank];
    const auto& stages = problem_.stages_on(rank);
    const std::int64_t m = problem_.num_micro_batches();
    for (const std::int32_t f : stages) {
      for (const std::int32_t b : stages) {
        const Step pair = problem_.pair(f, b);
        if (!problem_.pays(pair)) continue;
        options_[rank].push_back(pair);
        state.gain = std::max(
            state.gain, duration(problem_.forward(f)) + duration(problem_.backward(b)) - duration(pair));
      }
    }
    for (const std::int32_t stage : stages) options_[rank].push_back(problem_.input_gradient(stage));
    for (const std::int32_t stage : stages) options_[rank].push_back(problem_.forward(stage));
    for (const std::int32_t stage : stages) {
      options_[rank].push_back(problem_.weight_gradient(stage));
      state.work_left += m * (duration(problem_.forward(stage)) + duration(problem_.backward(stage)));
    }
    state.forwards_left = state.gradients_left = m * static_cast<std::int64_t>(stages.size());
    state.steps_left = 3 * state.forwards_left;
  }

  Time duration(Step step) const { return problem_.type(step).duration; }

  /// When the next input of a hop arrives; kNever where it has not been sent.
  Time next_arrival(int hop) const {
    const std::int32_t k = done_[hop + 1];
    return k < done_[hop] ? arrival_[hop][k] : kNever;
  }

  /// When a step could start for all that it needs, its rank aside; kNever where it cannot yet.
  Time ready(const RankState& state, int rank, const StepType& type) const {
    if (state.held + type.rise > problem_.limits(rank).activations) return kNever;
    if (type.kind == Kind::kWeightGradient) return lacking_[problem_.gradient_stage(type)] > 0 ? 0 : kNever;
    const Time first = next_arrival(type.hop);
    return type.second_hop < 0 ? first : std::max(first, next_arrival(type.second_hop));
  }

  /// Ranks from `rank` on decide what they do at `time`; then time goes on.
  bool decide(Time time, int rank) {
    for (; rank < problem_.num_ranks(); ++rank) {
      const RankState& state = ranks_[rank];
      if (state.free <= time && state.steps_left > 0 && may_decide(rank, time)) return decide_of(time, rank);
    }
    return go_on(time);
  }

  /// An idle rank decides again when something new has arrived.
  bool may_decide(int rank, Time time) const {
    const RankState& state = ranks_[rank];
    if (state.idle_since == kAwake) return true;
    return std::any_of(options_[rank].begin(), options_[rank].end(),
                       [&](Step step) { return ready(state, rank, problem_.type(step)) == time; });
  }

  bool decide_of(Time time, int rank) {
    RankState& state = ranks_[rank];
    const RankState before = state;
    Time idle_until = before.idle_until;
    Time same_weight = -1;
    for (const Step step : options_[rank]) {
      const StepType& type = problem_.type(step);
      const Time at = ready(before, rank, type);
      if (at > time) continue;
      // What could have started when the rank went idle should have.
      if (before.idle_since != kAwake && at <= before.idle_since) continue;
      if (type.kind == Kind::kWeightGradient) {
        if (type.duration == same_weight) continue;  // as good as the last
        same_weight = type.duration;
      }
      if (hinders_nothing(before, type)) idle_until = std::min(idle_until, time + type.duration);
      if (start(step, type, rank, time)) {
        if (decide(time, rank)) return true;
        if (gave_up_) return false;
      }
      take_back(type, rank, before);
    }
    // Idle, for something better to come.
    state.idle_until = idle_until;
    if (before.idle_since == kAwake) state.idle_since = time;
    if (time + least_work_left(state) <= deadline_ && decide(time, rank + 1)) return true;
    state = before;
    return false;
  }

  /// Whether a step that fits into idle time may as well run there: it takes no room, and is not wanted for a
  /// pair.
  static bool hinders_nothing(const RankState& state, const StepType& type) {
    return type.kind == Kind::kWeightGradient || (type.kind == Kind::kInputGradient && state.gain == 0);
  }

  Time least_work_left(const RankState& state) const {
    return state.work_left - std::min(state.forwards_left, state.gradients_left) * state.gain;
  }

  /// False where the deadline cannot be held any more.
  bool start(Step step, const StepType& type, int rank, Time time) {
    RankState& state = ranks_[rank];
    state.free = time + type.duration;
    state.idle_since = kAwake;
    state.idle_until = kNever;
    state.held += type.change;
    order_[rank].push_back(step);
    if (type.kind == Kind::kPair) {
      state.work_left -= duration(problem_.forward(problem_.stage(type))) +
                         duration(problem_.backward(problem_.gradient_stage(type)));
    } else {
      state.work_left -= type.duration;
    }
    state.steps_left -= type.kind == Kind::kPair ? 3 : 1;
    state.forwards_left -= type.has_forward() ? 1 : 0;
    state.gradients_left -= type.has_gradient() ? 1 : 0;
    if (type.kind == Kind::kInputGradient) ++lacking_[problem_.gradient_stage(type)];
    if (type.kind == Kind::kWeightGradient) --lacking_[problem_.gradient_stage(type)];
    bool holds = state.free + least_work_left(state) <= deadline_;
    for (const int hop : {type.hop, type.second_hop}) {
      if (hop < 0) continue;
      const std::int32_t k = done_[hop + 1]++;
      arrival_[hop + 1][k] = state.free + problem_.transfer(hop).delay;
      holds = holds && state.free + tails_[hop][k] <= deadline_;
    }
    return holds;
  }

  void take_back(const StepType& type, int rank, const RankState& before) {
    ranks_[rank] = before;
    order_[rank].pop_back();
    if (type.kind == Kind::kInputGradient) --lacking_[problem_.gradient_stage(type)];
    if (type.kind == Kind::kWeightGradient) ++lacking_[problem_.gradient_stage(type)];
    for (const int hop : {type.hop, type.second_hop}) {
      if (hop >= 0) --done_[hop + 1];
    }
  }

  /// To the next event.
  bool go_on(Time time) {
    Time next = kNever;
    bool all_done = true;
    for (const RankState& state : ranks_) {
      all_done = all_done && state.steps_left == 0;
      if (state.free > time && state.steps_left > 0) next = std::min(next, state.free);
    }
    if (all_done) return true;
    for (int hop = 0; hop < problem_.num_hops(); ++hop) {
      const Time arrival = next_arrival(hop);
      if (arrival > time && ranks_[problem_.rank_of_hop(hop)].free < arrival) next = std::min(next, arrival);
    }
    if (next >= kNever || !holds_at(next)) return false;
    ++num_states_;
    if (num_states_ > most_states_ || (num_states_ % 1024 == 0 && stop_.stop_requested())) {
      gave_up_ = true;
      return false;
    }
    const Digest digest = digest_at(next);
    const auto known = failed_.find(digest);
    if (known != failed_.end() && known->second <= next) return false;
    if (decide(next, 0)) return true;
    if (!gave_up_) failed_[digest] = next;
    return false;
  }

  /// Whether what has not started by `time` can still be in time.
  bool holds_at(Time time) const {
    for (const RankState& state : ranks_) {
      if (state.steps_left == 0) continue;
      if (state.idle_since != kAwake && time >= state.idle_until) return false;
      if (std::max(time, state.free) + least_work_left(state) > deadline_) return false;
    }
    for (int hop = 0; hop < problem_.num_hops(); ++hop) {
      const std::int32_t k = done_[hop + 1];
      if (k == problem_.num_micro_batches()) continue;
      const Time start = std::max(time, ranks_[problem_.rank_of_hop(hop)].free);
      if (start + least_[hop] + tails_[hop][k] > deadline_) return false;
    }
    return true;
  }

  Digest digest_at(Time time) const {
    Digest digest;
    for (const std::int32_t count : done_) digest.add(count);
    for (const std::int32_t count : lacking_) digest.add(count);
    for (const RankState& state : ranks_) {
      digest.add(std::max<Time>(0, state.free - time));
      const bool idle = state.idle_since != kAwake;
      digest.add(idle ? time - state.idle_since : -1);
      digest.add(idle && state.idle_until < kNever ? state.idle_until - time : -1);
    }
    for (int hop = 0; hop < problem_.num_hops(); ++hop) {
      for (std::int32_t k = done_[hop + 1]; k < done_[hop]; ++k)
        digest.add(std::max<Time>(0, arrival_[hop][k] - time));
    }
    return digest;
  }

  const Problem& problem_;
  const Time deadline_;
  const std::int64_t most_states_;
  const std::stop_token& stop_;
  std::vector<Time> least_;               // [hop]
  std::vector<std::vector<Time>> tails_;  // [hop][micro-batch]: what comes after its end
  std::vector<std::vector<Time>> arrival_;
  std::vector<std::int32_t> done_;          // [hop + 1], as Evaluator's
  std::vector<std::int32_t> lacking_;       // [stage] Is without W
  std::vector<std::vector<Step>> options_;  // [rank], the most wanted first
  std::vector<RankState> ranks_;
  Order order_;
  std::unordered_map<Digest, Time, DigestHash> failed_;
  std::int64_t num_states_ = 0;
  bool gave_up_ = false;
};

}  // namespace

bool exact_applies(const Problem& problem) {
  const auto& types = problem.types();
  return !problem.limits_bytes() && problem.num_channels() == 0 &&
         std::all_of(types.begin(), types.end(), [](const StepType& type) { return type.duration > 0; });
}

Exact find_order(const Problem& problem, Time deadline, std::int64_t most_states,
                 const std::stop_token& stop) {
  return Search(problem, deadline, most_states, stop).run();
}

}  // namespace counterflow::searching
