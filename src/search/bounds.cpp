#include "bounds.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace counterflow::searching {
namespace {

using Kind = StepType::Kind;

/// Along the way of a micro-batch, all ranks free: times of hops, when they start at the earliest, and what
/// comes after a gradient at least.
class Way {
 public:
  explicit Way(const Problem& problem) : problem_(problem) {
    const int num_hops = problem.num_hops();
    shortest_.resize(num_hops, kForever);
    whole_.resize(problem.num_stages(), kForever);
    for (const StepType& type : problem.types()) {
      if (type.hop >= 0) shortest_[type.hop] = std::min(shortest_[type.hop], type.duration);
      if (type.second_hop >= 0)
        shortest_[type.second_hop] = std::min(shortest_[type.second_hop], type.duration);
      if (!type.has_gradient()) continue;
      const int stage = problem.gradient_stage(type);
      // An I is no whole backward: its W follows.
      const Time weight = type.has_weight() ? 0 : problem.type(problem.weight_gradient(stage)).duration;
      whole_[stage] = std::min(whole_[stage], type.duration + weight);
    }
    head_.resize(num_hops, 0);
    for (int hop = 1; hop < num_hops; ++hop)
      head_[hop] = head_[hop - 1] + shortest_[hop - 1] + problem.transfer(hop - 1).delay;
    after_.resize(problem.num_stages(), 0);
    for (int stage = 1; stage < problem.num_stages(); ++stage) {
      const int hop = gradient_hop(stage);
      after_[stage] =
          problem.transfer(hop).delay + std::max(whole_[stage - 1], shortest_[hop + 1] + after_[stage - 1]);
    }
  }

  int gradient_hop(int stage) const { return problem_.num_hops() - 1 - stage; }

  /// The least time that a forward or gradient of a hop takes.
  Time shortest(int hop) const { return shortest_[hop]; }
  /// The least time of an I and a W, a B or a pair.
  Time whole(int stage) const { return whole_[stage]; }
  /// When a hop starts at the earliest.
  Time head(int hop) const { return head_[hop]; }
  /// From the end of a gradient to the end of the stages' backwards before it.
  Time after(int stage) const { return after_[stage]; }
  /// From the start of a forward to the end of its stage's backward, of the same micro-batch.
  Time lifespan(int stage) const { return head_[gradient_hop(stage)] - head_[stage] + whole_[stage]; }

 private:
  static constexpr Time kForever = std::numeric_limits<Time>::max() / 4;

  const Problem& problem_;
  std::vector<Time> shortest_;  // [hop]
  std::vector<Time> whole_;     // [stage]
  std::vector<Time> head_;      // [hop]
  std::vector<Time> after_;     // [stage]
};

/// What one rank is bound to.
class RankBounds {
 public:
  RankBounds(const Problem& problem, const Way& way, int rank)
      : problem_(problem), way_(way), stages_(problem.stages_on(rank)), m_(problem.num_micro_batches()) {
    for (const std::int32_t stage : stages_) {
      forwards_.push_back(duration(Kind::kForward, stage));
      weights_.push_back(duration(Kind::kWeightGradient, stage));
      work_ += m_ * (duration(Kind::kForward, stage) + duration(Kind::kBackward, stage));
      for (const std::int32_t backward : stages_) {
        const Time gain = duration(Kind::kForward, stage) + duration(Kind::kBackward, backward) -
                          problem.type(problem.pair(stage, backward)).duration;
        gain_ = std::max(gain_, gain);
      }
    }
    std::sort(forwards_.begin(), forwards_.end(), std::greater<>());
    std::sort(weights_.begin(), weights_.end(), std::greater<>());
    passes_ = static_cast<std::int64_t>(m_) * static_cast<std::int64_t>(stages_.size());
    held_ = std::min(passes_, held_at_most(rank));
  }

  /// The last micro-batch's gradients all come after the last forward, the first's forwards before the first
  /// gradient: none of them is in a pair.
  Time work() const { return work_ - std::max<Time>(0, passes_ - least_unpaired()) * gain_; }

  /// Before the first gradient only forwards run, unpaired and no more than can be held; after the last
  /// gradient only Ws run, of backwards that were in no pair. Chooses how many of both make the bound least.
  Time ramps() const {
    Time head = kMost;
    Time gradient_head = kMost;
    Time tail = kMost;
    for (const std::int32_t stage : stages_) {
      head = std::min(head, way_.head(stage));
      gradient_head = std::min(gradient_head, way_.head(way_.gradient_hop(stage)));
      tail = std::min(tail, way_.after(stage));
    }
    const std::int64_t least = least_unpaired();
    const auto idle_before = [&](std::int64_t first) {
      return std::max(head, gradient_head - longest(forwards_, first));
    };
    const auto idle_after = [&](std::int64_t last) {
      return std::max<Time>(0, tail - longest(weights_, last));
    };
    // Both idle times fall as their numbers grow, the gain is lost with the larger of the two: the best of
    // each are equal, or the smaller is at its limit.
    Time best = kMost;
    for (std::int64_t n = least; n <= std::max(least, held_); ++n) {
      const Time pairs_gain = std::max<Time>(0, passes_ - n) * gain_;
      best = std::min(best, work_ - pairs_gain + idle_before(n) + idle_after(n));
      if (idle_before(n) == head && idle_after(n) == 0) break;
    }
    return best;
  }

  /// As many activations as the rank can hold at once are each there for their lifespans; they are taken one
  /// after another, each by a forward, and given back one after another.
  Time lifespans() const {
    Time held_time = 0;
    Time head = kMost;
    Time shortest_forward = kMost;
    Time shortest_release = kMost;
    for (const std::int32_t stage : stages_) {
      held_time += m_ * way_.lifespan(stage);
      head = std::min(head, way_.head(stage));
      shortest_forward = std::min(shortest_forward, way_.shortest(stage));
      shortest_release =
          std::min({shortest_release, duration(Kind::kWeightGradient, stage), way_.whole(stage)});
    }
    if (held_ == 0) return 0;
    const Time between = shortest_forward + shortest_release;
    const auto with = [&](std::int64_t held) {
      return head + divided_up(held_time + held * (held - 1) / 2 * between, held);
    };
    // Holding fewer than there is room for may be faster: the least is where held^2 = 2 * time / between.
    std::int64_t held = held_;
    if (between > 0) {
      const double least = std::sqrt(2.0 * static_cast<double>(held_time) / static_cast<double>(between));
      if (least < static_cast<double>(held_))
        held = std::max<std::int64_t>(1, static_cast<std::int64_t>(least));
    }
    return held < held_ ? std::min(with(held), with(held + 1)) : with(held);
  }

 private:
  static constexpr Time kMost = std::numeric_limits<Time>::max();

  /// Forwards before the first gradient: one of each stage that its micro-batch passes.
  std::int64_t least_unpaired() const {
    return problem_.folded() ? 1 : static_cast<std::int64_t>(stages_.size());
  }

  static Time divided_up(Time time, std::int64_t parts) { return (time + parts - 1) / parts; }

  Time duration(Kind kind, int stage) const { return problem_.type(problem_.step(kind, stage)).duration; }

  /// The longest that `count` passes of the rank take together; `each` is sorted, the longest first.
  Time longest(const std::vector<Time>& each, std::int64_t count) const {
    Time sum = 0;
    for (std::size_t i = 0; i < each.size() && count > 0; ++i) {
      const std::int64_t taken = std::min<std::int64_t>(count, m_);
      sum += taken * each[i];
      count -= taken;
    }
    return sum;
  }

  std::int64_t held_at_most(int rank) const {
    const Limits& limits = problem_.limits(rank);
    std::int64_t least_bytes = std::numeric_limits<std::int64_t>::max();
    for (const std::int32_t stage : stages_) {
      // What one takes at least: as an activation, or as what its W needs.
      const std::int64_t held = problem_.type(problem_.forward(stage)).change_bytes;
      const std::int64_t kept = -problem_.type(problem_.weight_gradient(stage)).change_bytes;
      least_bytes = std::min({least_bytes, held, kept});
    }
    if (least_bytes <= 0) return limits.activations;
    return std::min(limits.activations, limits.bytes / least_bytes);
  }

  const Problem& problem_;
  const Way& way_;
  const std::vector<std::int32_t>& stages_;
  std::int64_t m_;
  std::int64_t passes_ = 0;  // forwards on the rank
  std::int64_t held_ = 0;    // activations at most
  Time work_ = 0;
  Time gain_ = 0;                         // of a pair at most
  std::vector<Time> forwards_, weights_;  // of the stages, the longest first
};

}  // namespace

Time Bounds::best() const {
  return std::max({work, path, ramps, lifespans});
}

Bounds bounds_of(const Problem& problem) {
  const Way way(problem);
  Bounds bounds;
  for (int stage = 0; stage < problem.num_stages(); ++stage)
    bounds.path = std::max(bounds.path, way.head(way.gradient_hop(stage)) + way.whole(stage));
  for (int rank = 0; rank < problem.num_ranks(); ++rank) {
    const RankBounds one(problem, way, rank);
    bounds.work = std::max(bounds.work, one.work());
    bounds.ramps = std::max(bounds.ramps, one.ramps());
    bounds.lifespans = std::max(bounds.lifespans, one.lifespans());
  }
  return bounds;
}

}  // namespace counterflow::searching
