// The order in which interleaved schedules walk a rank's stages. Source: Megatron-LM (arXiv 2104.04473),
// section 2.2.2, with the relaxed round of torch.distributed.pipelining.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "counterflow/action.h"
#include "counterflow/generate.h"

namespace counterflow::generators {

/// Micro-batches go in rounds: all of a round's pass one stage before any passes the rank's next stage, and
/// the whole round goes before the next round. Megatron's round is one micro-batch a rank. Torch's is a
/// little longer where the ranks do not divide the micro-batches, and all of them where they are fewer than
/// the ranks.
class InterleavedOrder {
 public:
  /// `stages` are those of one rank, ascending, and must outlive the order.
  InterleavedOrder(const Size& size, std::span<const std::int32_t> stages)
      : stages_(stages), round_(round(size)) {}

  /// How many rounds there are.
  static int num_rounds(const Size& size) { return std::max(1, size.micro_batches / size.ranks); }

  /// Micro-batches in a round.
  static int round(const Size& size) { return size.micro_batches / num_rounds(size); }

  /// Whether all rounds are equally long.
  static bool fits(const Size& size) { return size.micro_batches % num_rounds(size) == 0; }

  /// The forwards of a rank, as many as its backwards.
  static std::int64_t num_forwards(const Size& size) {
    return std::int64_t{size.stages_per_rank} * size.micro_batches;
  }

  /// How many forwards a rank runs before its first backward: the first round's through all stages but the
  /// last, and some for each rank behind this one.
  static std::int64_t warm_up(const Size& size, int rank, int for_each_rank_behind) {
    const std::int64_t through_other_stages = std::int64_t{size.stages_per_rank - 1} * round(size);
    return std::min(num_forwards(size),
                    through_other_stages + for_each_rank_behind * (size.ranks - 1 - rank));
  }

  /// The n-th forward of the rank.
  Pass forward(std::int64_t n) const { return {stages_[turn(n)], micro_batch(n), PassKind::kForward}; }

  /// The n-th backward, input gradient or weight gradient: the same, the last stage first.
  Pass backward(std::int64_t n, PassKind kind = PassKind::kBackward) const {
    return {stages_[stages_.size() - 1 - turn(n)], micro_batch(n), kind};
  }

 private:
  std::size_t turn(std::int64_t n) const { return static_cast<std::size_t>(n / round_) % stages_.size(); }

  int micro_batch(std::int64_t n) const {
    const std::int64_t in_round = static_cast<std::int64_t>(stages_.size()) * round_;
    return static_cast<int>(n / in_round * round_ + n % round_);
  }

  std::span<const std::int32_t> stages_;
  int round_;
};

}  // namespace counterflow::generators
