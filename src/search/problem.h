// What a search works on: one direction of micro-batches through stages, with their costs.
//
// A micro-batch goes through 2S passes that hand something on, its *hops*: hop s is the forward of stage s,
// hop 2S - 1 - s the gradient of stage s (an I, a B or the backward of a pair). Each needs the hop before,
// and nothing else but its rank.
//
// All micro-batches are alike, so on every stage they may as well run in order: with the n-th output of a hop
// goes the n-th micro-batch. (Exchanging two that overtake each other makes nothing later.) A rank's list is
// therefore a sequence of steps that name only kinds and stages, and each W is of the oldest I that lacks
// one.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/schedule.h"

namespace counterflow::searching {

/// An index into Problem::types.
using Step = std::uint32_t;

/// What a step of a rank is. Two steps of the same type differ only in their micro-batches.
struct StepType {
  enum class Kind : std::uint8_t { kForward, kBackward, kInputGradient, kWeightGradient, kPair };

  Kind kind = Kind::kForward;
  std::int32_t hop = -1;         ///< -1: none (W)
  std::int32_t second_hop = -1;  ///< the backward of a pair; -1: none
  std::int32_t forward = -1;     ///< stage of the forward, counted on its rank; -1: none
  std::int32_t gradient = -1;    ///< stage of the B, I or W, counted on its rank; -1: none
  Time duration = 0;

  // Activations and their bytes on the rank: what is held at most during the step, and what is afterwards,
  // beyond what was held before it.
  std::int32_t rise = 0;
  std::int32_t change = 0;
  std::int64_t rise_bytes = 0;
  std::int64_t change_bytes = 0;

  bool has_forward() const { return forward >= 0; }
  bool has_gradient() const { return gradient >= 0 && kind != Kind::kWeightGradient; }
  bool has_weight() const { return gradient >= 0 && kind != Kind::kInputGradient; }
};

using Order = std::vector<std::vector<Step>>;  ///< [rank][position]

/// What a rank may hold.
struct Limits {
  std::int64_t activations = std::numeric_limits<std::int32_t>::max();
  std::int64_t bytes = std::numeric_limits<std::int64_t>::max();  ///< of activations
};

/// Immutable once made.
class Problem {
 public:
  /// What happens after a hop: its output travels `delay` on a channel that other hops may share.
  struct Transfer {
    Time delay = 0;
    std::int32_t channel = -1;  ///< -1: nothing waits for another message
  };

  /// `transfers` has one entry a hop, that of the last unused. The costs must be of `rank_of_stage.size()`
  /// stages; their links are not looked at.
  /// `folded`: each rank stands for two of a bidirectional placement, on each of which its two stages are
  /// passed by micro-batches of different directions. Schedules need not be mirror images, so that bounds
  /// must not conclude from one stage of a rank to the other.
  Problem(int num_ranks, int num_micro_batches, std::vector<std::int32_t> rank_of_stage,
          const CostModel& costs, std::vector<Transfer> transfers, std::vector<Limits> limits,
          bool folded = false);

  int num_ranks() const { return num_ranks_; }
  int num_stages() const { return static_cast<int>(rank_of_stage_.size()); }
  int num_micro_batches() const { return num_micro_batches_; }
  int num_hops() const { return 2 * num_stages(); }
  int num_channels() const { return num_channels_; }
  bool folded() const { return folded_; }

  int rank_of_stage(int stage) const { return rank_of_stage_[stage]; }
  const std::vector<std::int32_t>& stages_on(int rank) const { return stages_on_[rank]; }
  int stage_of_hop(int hop) const { return hop < num_stages() ? hop : num_hops() - 1 - hop; }
  int rank_of_hop(int hop) const { return rank_of_stage_[stage_of_hop(hop)]; }
  const Transfer& transfer(int hop) const { return transfers_[hop]; }
  const Limits& limits(int rank) const { return limits_[rank]; }
  bool limits_bytes() const { return limits_bytes_; }

  const std::vector<StepType>& types() const { return types_; }
  const StepType& type(Step step) const { return types_[step]; }
  int stage(const StepType& type) const;           ///< of its F, or else of its gradient
  int gradient_stage(const StepType& type) const;  ///< of its B, I or W

  Step step(StepType::Kind kind, int stage) const {
    return static_cast<Step>(4 * stage + static_cast<int>(kind));
  }
  Step forward(int stage) const { return step(StepType::Kind::kForward, stage); }
  Step backward(int stage) const { return step(StepType::Kind::kBackward, stage); }
  Step input_gradient(int stage) const { return step(StepType::Kind::kInputGradient, stage); }
  Step weight_gradient(int stage) const { return step(StepType::Kind::kWeightGradient, stage); }

  /// An overlapped pair of two stages of one rank.
  Step pair(int forward_stage, int backward_stage) const;

  /// Whether a pair takes less than its two passes: others are never worth choosing.
  bool pays(Step pair) const {
    return types_[pair].duration < types_[forward(stage(types_[pair]))].duration +
                                       types_[backward(gradient_stage(types_[pair]))].duration;
  }

  /// Whether any pair pays.
  bool any_pair_pays() const { return any_pair_pays_; }

 private:
  void add_stage(int stage, const CostModel& costs);
  void add_pairs(int rank, const CostModel& costs);

  int num_ranks_;
  int num_micro_batches_;
  int num_channels_ = 0;
  bool folded_ = false;
  bool limits_bytes_ = false;
  bool any_pair_pays_ = false;
  std::vector<std::int32_t> rank_of_stage_;
  std::vector<std::int32_t> local_of_stage_;          // which of its rank's stages it is
  std::vector<std::vector<std::int32_t>> stages_on_;  // [rank], ascending
  std::vector<Transfer> transfers_;                   // [hop]
  std::vector<Limits> limits_;                        // [rank]
  std::vector<StepType> types_;                       // four a stage, then each rank's pairs
  std::vector<std::size_t> first_pair_;               // [rank]
};

/// The order of a schedule in one direction, with its micro-batches put in order; pairs that do not pay are
/// taken apart. The schedule must be complete.
Order order_of(const Problem& problem, const Schedule& schedule);

/// The lists of actions of an order.
std::vector<std::vector<Action>> actions_of(const Problem& problem, const Order& order);

/// Whether a rank's list has each F before its gradient and each I before its W, and stays within the limits.
bool fits(const Problem& problem, int rank, const std::vector<Step>& steps);
bool fits(const Problem& problem, const Order& order);

}  // namespace counterflow::searching
