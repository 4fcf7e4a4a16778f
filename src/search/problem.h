// What a search works on: one direction of micro-batches through stages, with their costs.
//
// All micro-batches are alike, so on every stage they may as well run in order: a rank's list is a sequence
// of steps that name only kinds and stages, and the n-th F of a stage is the n-th micro-batch's.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/schedule.h"

namespace counterflow::search {

/// A step of a rank without its micro-batches. kOverlap: a forward of `stage` and a full backward of `other`.
struct Step {
  enum class Kind : std::uint8_t { kForward, kBackward, kInputGradient, kWeightGradient, kOverlap };
  Kind kind = Kind::kForward;
  std::uint16_t stage = 0;
  std::uint16_t other = 0;

  bool has_forward() const { return kind == Kind::kForward || kind == Kind::kOverlap; }
  bool has_gradient() const { return kind != Kind::kForward && kind != Kind::kWeightGradient; }
  bool has_weight() const { return kind != Kind::kForward && kind != Kind::kInputGradient; }
  std::uint16_t gradient_stage() const { return kind == Kind::kOverlap ? other : stage; }

  friend bool operator==(const Step&, const Step&) = default;
};

using Order = std::vector<std::vector<Step>>;  // [rank][position]

struct Problem {
  int num_ranks = 0;
  int num_stages = 0;
  int num_micro_batches = 0;
  std::vector<std::int32_t> rank_of_stage;
  std::vector<Time> forward, input_gradient, weight_gradient;  // [stage]
  std::vector<Time> overlap;  // [forward's stage * num_stages + backward's stage]
  std::vector<Time> delay;    // [stage] between stage and stage + 1, both ways
  int max_activations = 0;    // of a rank; what never binds where there is no limit
  bool may_overlap = false;   // whether some pair is cheaper than its two passes

  Time pair(int forward_stage, int backward_stage) const {
    return overlap[static_cast<std::size_t>(forward_stage) * num_stages + backward_stage];
  }
  Time duration(const Step& step) const;
};

/// The order of a schedule in one direction whose stages run their micro-batches in order; nothing for
/// another.
std::optional<Order> order_of(const Schedule& schedule);

/// The schedule of an order: the inverse of order_of().
Schedule schedule_of(const Order& order, const Placement& placement);

}  // namespace counterflow::search
