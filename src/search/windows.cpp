#include "windows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

namespace counterflow::searching {
namespace {

using Kind = StepType::Kind;

constexpr Time kFar = std::numeric_limits<Time>::max() / 4;
constexpr std::int64_t kMostPieces = 2'000'000;

/// The times of a stage's passes.
struct StageTimes {
  // On the rank: those of two passes that can be a pair are together no longer than the pair, so that a pair
  // can be thought of as its passes one after another.
  Time forward = 0;
  Time input = 0;
  Time weight = 0;

  // From start to end, in whatever step.
  Time least_forward = kFar;
  Time least_gradient = kFar;
  Time least_backward = kFar;  // with its W
};

/// `part`, 0 to 1, of what pairs gain is taken off the forwards, as far as they go, the rest off the
/// backwards.
std::vector<StageTimes> stage_times(const Problem& problem, double part) {
  std::vector<StageTimes> times(problem.num_stages());
  for (int stage = 0; stage < problem.num_stages(); ++stage) {
    StageTimes& one = times[stage];
    one.forward = problem.type(problem.forward(stage)).duration;
    one.input = problem.type(problem.input_gradient(stage)).duration;
    one.weight = problem.type(problem.weight_gradient(stage)).duration;
    one.least_forward = one.forward;
    one.least_gradient = one.input;
    one.least_backward = one.input + one.weight;
  }
  for (int rank = 0; rank < problem.num_ranks(); ++rank) {
    const auto& stages = problem.stages_on(rank);
    Time gain = 0;
    Time forward = kFar;
    Time backward = kFar;
    for (const std::int32_t f : stages) {
      forward = std::min(forward, times[f].forward);
      backward = std::min(backward, times[f].input + times[f].weight);
      for (const std::int32_t b : stages) {
        const Time pair = problem.type(problem.pair(f, b)).duration;
        gain = std::max(gain, times[f].forward + times[b].input + times[b].weight - pair);
        times[f].least_forward = std::min(times[f].least_forward, pair);
        times[b].least_gradient = std::min(times[b].least_gradient, pair);
        times[b].least_backward = std::min(times[b].least_backward, pair);
      }
    }
    const Time wanted = std::llround(part * static_cast<double>(gain));
    const Time off_forward = std::min(std::max(wanted, gain - backward), forward);
    const bool shared = gain <= forward + backward;
    for (const std::int32_t stage : stages) {
      StageTimes& one = times[stage];
      if (!shared) {
        one.forward = one.input = one.weight = 0;
        continue;
      }
      const Time off_weight = std::min(one.weight, gain - off_forward);
      one.forward -= off_forward;
      one.weight -= off_weight;
      one.input -= gain - off_forward - off_weight;
    }
  }
  return times;
}

/// A piece of work that cannot start before its head.
struct Piece {
  Time head = 0;
  Time work = 0;
};

/// When a rank can have done all pieces, at the earliest.
Time finish(std::vector<Piece>& pieces) {
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.head < b.head; });
  Time time = 0;
  for (const Piece& piece : pieces) time = std::max(time, piece.head) + piece.work;
  return time;
}

/// The earliest starts of hops, forwards in time or backwards.
///
/// Backwards the end of the schedule is the beginning: gradients come first, from stage 0 on, each after its
/// W, and forwards second; an activation is taken by a W and given back by a forward.
class Starts {
 public:
  Starts(const Problem& problem, const std::vector<StageTimes>& times, bool backwards,
         std::int64_t most_pieces)
      : problem_(problem),
        backwards_(backwards),
        num_stages_(problem.num_stages()),
        num_micro_batches_(problem.num_micro_batches()) {
    const int num_hops = problem.num_hops();
    start_.assign(num_hops, std::vector<Time>(num_micro_batches_, 0));
    for (int stage = 0; stage < num_stages_; ++stage) {
      const StageTimes& one = times[stage];
      first_work_.push_back(backwards ? one.input : one.forward);
      second_work_.push_back(backwards ? one.forward : one.input);
      weight_.push_back(one.weight);
      release_.push_back(backwards ? one.least_forward : one.least_backward);
    }
    for (int hop = 0; hop < num_hops; ++hop) {
      const int real = backwards ? num_hops - 1 - hop : hop;
      const StageTimes& one = times[problem.stage_of_hop(real)];
      least_.push_back(real < num_stages_ ? one.least_forward : one.least_gradient);
      const int leaves = backwards ? num_hops - 2 - hop : hop;
      delay_.push_back(hop + 1 < num_hops ? problem.transfer(leaves).delay : 0);
    }
    std::int64_t squares = 0;
    for (int rank = 0; rank < problem.num_ranks(); ++rank) {
      const auto stages = static_cast<std::int64_t>(problem.stages_on(rank).size());
      squares += 4 * stages * stages;
    }
    most_looked_at_ = std::min<int>(num_micro_batches_, static_cast<int>(std::sqrt(most_pieces / squares)));
    tighten();
  }

  /// What comes before the start of a forward or gradient, or after its end. `k` counts forwards in time.
  Time of_forward(int stage, int k) const {
    return backwards_ ? start_[second_hop(stage)][num_micro_batches_ - 1 - k] : start_[stage][k];
  }
  Time of_gradient(int stage, int k) const {
    return backwards_ ? start_[stage][num_micro_batches_ - 1 - k] : start_[second_hop(stage)][k];
  }

 private:
  int second_hop(int stage) const { return 2 * num_stages_ - 1 - stage; }
  std::vector<Time>& first(int stage) { return start_[stage]; }
  std::vector<Time>& second(int stage) { return start_[second_hop(stage)]; }

  void tighten() {
    constexpr int kMostPasses = 12;
    follow_ways();
    for (int pass = 0; pass < kMostPasses; ++pass) {
      changed_ = false;
      for (int rank = 0; rank < problem_.num_ranks(); ++rank) look_at(rank);
      if (!changed_) return;
      follow_ways();
    }
  }

  static bool raise(Time& time, Time to) {
    if (to <= time) return false;
    time = to;
    return true;
  }

  /// Hop after hop, and on each micro-batch after micro-batch.
  void follow_ways() {
    for (int hop = 0; hop < problem_.num_hops(); ++hop) {
      for (int k = 0; k < num_micro_batches_; ++k) {
        if (hop > 0) raise(start_[hop][k], start_[hop - 1][k] + least_[hop - 1] + delay_[hop - 1]);
        if (k > 0) raise(start_[hop][k], start_[hop][k - 1] + least_[hop]);
      }
    }
  }

  void look_at(int rank) {
    const std::vector<std::int32_t>& stages = problem_.stages_on(rank);
    if (!problem_.folded()) return look_at(rank, stages);
    for (const std::int32_t stage : stages) look_at(rank, {stage});
  }

  /// Stages of a rank that the same micro-batches pass one after another.
  void look_at(int rank, const std::vector<std::int32_t>& stages) {
    const auto num_stages = static_cast<std::int64_t>(stages.size());
    const std::int64_t room =
        std::min<std::int64_t>(problem_.limits(rank).activations, num_stages * num_micro_batches_);
    find_releases(stages);
    for (int k = 0; k < most_looked_at_; ++k) {
      for (std::int64_t j = 0; j < num_stages; ++j) {
        changed_ |= raise(first(stages[j])[k], before_first(stages, room, j, k));
        changed_ |= raise(second(stages[j])[k], before_second(stages, room, j, k));
      }
    }
  }

  /// When seconds can start, the earliest first, and the least that they take.
  void find_releases(const std::vector<std::int32_t>& stages) {
    seconds_.clear();
    least_release_ = least_release_work_ = least_second_work_ = least_weight_ = kFar;
    for (const std::int32_t stage : stages) {
      const auto& starts = second(stage);
      seconds_.insert(seconds_.end(), starts.begin(), starts.end());
      least_release_ = std::min(least_release_, release_[stage]);
      least_release_work_ =
          std::min(least_release_work_, second_work_[stage] + (backwards_ ? 0 : weight_[stage]));
      least_second_work_ = std::min(least_second_work_, second_work_[stage]);
      least_weight_ = std::min(least_weight_, weight_[stage]);
    }
    std::sort(seconds_.begin(), seconds_.end());
  }

  void add_firsts(int stage, std::int64_t count) {
    const Time weight = backwards_ ? weight_[stage] : 0;  // each after its W, which can start at any time
    for (std::int64_t k = 0; k < count; ++k) {
      pieces_.push_back({first(stage)[k], first_work_[stage]});
      if (weight > 0) pieces_.push_back({0, weight});
    }
  }

  /// Before micro-batch k's first hop of the rank's j-th stage starts, the stages before have had theirs, and
  /// what the rank cannot hold has been given back by micro-batches that had all of their first hops.
  Time before_first(const std::vector<std::int32_t>& stages, std::int64_t room, std::int64_t j, int k) {
    const auto num_stages = static_cast<std::int64_t>(stages.size());
    const std::int64_t before = j + 1;
    std::int64_t through = 0;  // micro-batches
    std::int64_t released = 0;
    if (before * (k + 1) > room) {
      through = k + 1 - room / before;
      released = before * (k + 1) + (num_stages - before) * through - room;
    }
    pieces_.clear();
    for (std::int64_t i = 0; i < num_stages; ++i) add_firsts(stages[i], i < j ? k + 1 : i == j ? k : through);
    for (std::int64_t i = 0; i < released; ++i) pieces_.push_back({seconds_[i], least_release_work_});
    const Time time = finish(pieces_);
    return released > 0 ? std::max(time, seconds_[released - 1] + least_release_) : time;
  }

  Time before_second(const std::vector<std::int32_t>& stages, std::int64_t room, std::int64_t j, int k) {
    const auto num_stages = static_cast<std::int64_t>(stages.size());
    pieces_.clear();
    for (const std::int32_t stage : stages) add_firsts(stage, k + 1);
    for (std::int64_t i = j; i < num_stages; ++i) {
      const int stage = stages[i];
      const int count = i > j ? k + 1 : k;
      for (int other = 0; other < count; ++other)
        pieces_.push_back({second(stage)[other], second_work_[stage]});
    }
    if (!backwards_) {
      const std::int64_t released = num_stages * (k + 1) - room;
      for (std::int64_t i = 0; i < released; ++i)
        pieces_.push_back({seconds_[i] + least_second_work_, least_weight_});
    }
    return finish(pieces_);
  }

  const Problem& problem_;
  const bool backwards_;
  const int num_stages_;
  const int num_micro_batches_;
  int most_looked_at_ = 0;  // micro-batches
  bool changed_ = false;
  std::vector<Time> first_work_, second_work_, weight_, release_;  // [stage]
  std::vector<Time> least_, delay_;                                // [hop]
  std::vector<std::vector<Time>> start_;                           // [hop][micro-batch]

  // Of the rank that is looked at:
  std::vector<Time> seconds_;
  Time least_release_ = 0;       // from a second's start until what it had taken is given back
  Time least_release_work_ = 0;  // work of the rank for it
  Time least_second_work_ = 0;
  Time least_weight_ = 0;
  std::vector<Piece> pieces_;
};

struct Job {
  Time head = 0;
  Time work = 0;
  Time tail = 0;
};

/// The least time until all tails have passed where one rank does all jobs, and may interrupt them: always
/// the one with the longest tail of those that can start (Jackson's preemptive schedule; Carlier and Pinson
/// 1989).
Time preemptive(std::vector<Job> jobs) {
  std::sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return a.head < b.head; });
  std::priority_queue<std::pair<Time, Time>> ready;  // tail, work left
  Time time = 0;
  Time longest = 0;
  std::size_t next = 0;
  while (next < jobs.size() || !ready.empty()) {
    if (ready.empty()) time = std::max(time, jobs[next].head);
    for (; next < jobs.size() && jobs[next].head <= time; ++next)
      ready.emplace(jobs[next].tail, jobs[next].work);
    const auto [tail, left] = ready.top();
    ready.pop();
    const Time until = next < jobs.size() ? jobs[next].head : kFar;
    if (time + left <= until) {
      time += left;
      longest = std::max(longest, time + tail);
    } else {
      ready.emplace(tail, left - (until - time));
      time = until;
    }
  }
  return longest;
}

Time bound_with(const Problem& problem, double part, std::int64_t most_pieces) {
  const std::vector<StageTimes> times = stage_times(problem, part);
  const Starts heads(problem, times, false, most_pieces);
  const Starts tails(problem, times, true, most_pieces);
  Time bound = 0;
  for (int rank = 0; rank < problem.num_ranks(); ++rank) {
    std::vector<Job> jobs;
    for (const std::int32_t stage : problem.stages_on(rank)) {
      const StageTimes& one = times[stage];
      for (int k = 0; k < problem.num_micro_batches(); ++k) {
        const Time gradient = heads.of_gradient(stage, k);
        jobs.push_back({heads.of_forward(stage, k), one.forward, tails.of_forward(stage, k)});
        jobs.push_back({gradient, one.input, tails.of_gradient(stage, k)});
        jobs.push_back({gradient + one.input, one.weight, 0});
        bound = std::max({bound, heads.of_forward(stage, k) + one.least_forward + tails.of_forward(stage, k),
                          gradient + one.least_backward,
                          gradient + one.least_gradient + tails.of_gradient(stage, k)});
      }
    }
    bound = std::max(bound, preemptive(std::move(jobs)));
  }
  return bound;
}

}  // namespace

Time windows_bound(const Problem& problem) {
  if (!problem.any_pair_pays()) return bound_with(problem, 0, kMostPieces);
  Time bound = 0;
  for (const double part : {0.0, 0.5, 1.0})
    bound = std::max(bound, bound_with(problem, part, kMostPieces / 3));
  return bound;
}

std::vector<Time> least_times(const Problem& problem) {
  std::vector<Time> times(problem.num_hops(), kFar);
  for (const StepType& type : problem.types()) {
    for (const int hop : {type.hop, type.second_hop}) {
      if (hop >= 0) times[hop] = std::min(times[hop], type.duration);
    }
  }
  return times;
}

std::vector<std::vector<Time>> least_tails(const Problem& problem) {
  const int num_stages = problem.num_stages();
  std::vector<std::vector<Time>> tails(problem.num_hops(), std::vector<Time>(problem.num_micro_batches(), 0));
  for (const double part : {0.0, 1.0}) {
    const Starts starts(problem, stage_times(problem, part), true, kMostPieces);
    for (int stage = 0; stage < num_stages; ++stage) {
      for (int k = 0; k < problem.num_micro_batches(); ++k) {
        Time& forward = tails[stage][k];
        Time& gradient = tails[2 * num_stages - 1 - stage][k];
        forward = std::max(forward, starts.of_forward(stage, k));
        gradient = std::max(gradient, starts.of_gradient(stage, k));
      }
    }
  }
  return tails;
}

}  // namespace counterflow::searching
