// What each bar of a timeline waited for.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "counterflow/timeline.h"

namespace counterflow {

/// Finds the bars that ran passes. B and I of a stage and micro-batch are one thing to those that wait for
/// them: its gradient.
class PassIndex {
 public:
  /// Passes must be within the placement.
  explicit PassIndex(const Timeline& timeline);

  /// The bar of a pass; nothing where it was not run. A stage that is not there is nothing too.
  std::optional<BarId> find(PassKind kind, std::int32_t stage, std::int32_t micro_batch) const;

  /// The bar that sends the result of a pass, and the bar that needs it.
  std::optional<BarId> sender(const Pass& pass) const {
    return find(pass.kind, pass.stage, pass.micro_batch);
  }
  std::optional<BarId> receiver(const Pass& pass) const;

 private:
  std::uint64_t key(PassKind kind, std::int32_t stage, std::int32_t micro_batch) const;

  std::uint64_t num_stages_;
  std::uint64_t num_micro_batches_;
  std::unordered_map<std::uint64_t, BarId> bars_;
};

/// Something that had to be there before a bar could begin.
struct Wait {
  BarId bar;         ///< that produced it
  Time sent = 0;     ///< when that had
  Time arrived = 0;  ///< when it was there: as `sent` where it came from the same rank
};

/// Waits of all bars. The timeline must outlive it and be connected.
class Waits {
 public:
  explicit Waits(const Timeline& timeline);

  /// What the passes of a bar needed; the bar before it on its rank is not among them.
  std::vector<Wait> of(BarId id) const;

  /// The last thing that a bar waited for, the bar before it on its rank included, which comes first where
  /// both were there at the same time; nothing where it waited for nothing.
  std::optional<Wait> last(BarId id) const;

 private:
  std::optional<Wait> of(const Pass& pass, BarId id) const;

  const Timeline& timeline_;
  PassIndex index_;
  std::vector<std::vector<std::vector<const Transfer*>>> arrivals_;  // [rank][bar]
};

}  // namespace counterflow
