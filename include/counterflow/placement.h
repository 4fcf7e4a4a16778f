// Which rank holds which stage, for each direction that micro-batches travel.
//
// The only place that knows rank, stage and direction formulas. A rank may hold any number of stages and a
// stage may live on several ranks, one for each direction at most (DualPipe, Chimera: two copies of every
// stage). Immutable once made; safe to read from any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace counterflow {

/// One way through the pipeline. Micro-batches first_micro_batch … first_micro_batch + num_micro_batches - 1
/// meet stage s on rank rank_of_stage[s].
struct Direction {
  std::int32_t first_micro_batch = 0;
  std::int32_t num_micro_batches = 0;
  std::vector<std::int32_t> rank_of_stage;

  friend bool operator==(const Direction&, const Direction&) = default;
};

class Placement {
 public:
  /// Limits on sizes, far above any real pipeline, so that a hostile file cannot ask for gigabytes.
  static constexpr std::int32_t kMaxRanks = 1 << 16;
  static constexpr std::int32_t kMaxStages = 1 << 18;
  static constexpr std::int32_t kMaxMicroBatches = 1 << 24;

  /// No ranks, no stages.
  Placement() = default;

  /// The directions' micro-batches must follow one another from 0 without a gap, and every direction must
  /// have the same number of stages, each on a rank below num_ranks. Throws InvalidConfig where they do not.
  Placement(int num_ranks, std::vector<Direction> directions);

  /// Stage s on rank s mod num_ranks, for all micro-batches: one stage a rank, or loops ("interleaved").
  static Placement loop(int num_ranks, int stages_per_rank, int num_micro_batches);

  /// Two stages a rank in a V: stage s on rank s and stage 2 * num_ranks - 1 - s on rank s (ZBV, DualPipeV).
  static Placement v(int num_ranks, int num_micro_batches);

  /// Two copies of every stage: the first half of the micro-batches meets stage s on rank s, the second half
  /// on rank num_ranks - 1 - s (DualPipe, Chimera). num_micro_batches must be even.
  static Placement bidirectional(int num_ranks, int num_micro_batches);

  int num_ranks() const { return num_ranks_; }
  int num_stages() const { return num_stages_; }
  int num_micro_batches() const { return num_micro_batches_; }
  int num_directions() const { return static_cast<int>(directions_.size()); }
  const Direction& direction(int index) const { return directions_[index]; }
  std::span<const Direction> directions() const { return directions_; }

  /// The direction of a micro-batch in [0, num_micro_batches).
  int direction_of(int micro_batch) const {
    int index = 0;
    while (micro_batch >= directions_[index].first_micro_batch + directions_[index].num_micro_batches)
      ++index;
    return index;
  }

  /// The rank on which a micro-batch meets a stage.
  int rank_of(int stage, int micro_batch) const {
    return directions_[direction_of(micro_batch)].rank_of_stage[stage];
  }

  /// The stages that a rank holds for one direction, ascending.
  std::span<const std::int32_t> stages_on(int rank, int direction) const;

  /// The stages that a rank holds for any direction, ascending, each once.
  std::vector<std::int32_t> stages_on(int rank) const;

  /// The ranks that hold a copy of a stage, ascending, each once.
  std::vector<std::int32_t> ranks_of(int stage) const;

  friend bool operator==(const Placement& a, const Placement& b) {
    return a.num_ranks_ == b.num_ranks_ && a.directions_ == b.directions_;
  }

 private:
  int num_ranks_ = 0;
  int num_stages_ = 0;
  int num_micro_batches_ = 0;
  std::vector<Direction> directions_;
  // stages_[stage_begin_[d * num_ranks + r] … stage_begin_[d * num_ranks + r + 1]): the stages of rank r in
  // d.
  std::vector<std::int32_t> stages_;
  std::vector<std::int32_t> stage_begin_;
};

}  // namespace counterflow
