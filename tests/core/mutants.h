// All schedules that one edit makes of a schedule.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "counterflow/schedule.h"

namespace counterflow {

/// One edit of the lists of actions: what it does, in words, and how.
struct Mutation {
  enum class Kind { kDrop, kDuplicate, kSwap, kMove, kRetype, kRename, kSplit, kMerge };
  Kind kind = Kind::kDrop;
  int rank = 0, step = 0;  ///< the action edited
  int rank_to = 0,
      step_to = 0;  ///< copies and moves: where to, in the list without the moved action; swaps: with
  int pass = 0;     ///< retyped and renamed: which pass of the action
  Pass becomes{};   ///< retyped and renamed: what the pass becomes
  bool backward_first = false;  ///< split: the backward goes before the forward

  std::string text(const Schedule& original) const;
  Schedule apply(const Schedule& original) const;
};

/// Every mutation of a schedule by one edit: an action dropped, copied to anywhere, swapped with another of
/// its rank, moved to anywhere on any rank; a pass of another kind, stage or micro-batch (one beyond the ends
/// too); an overlapped pair split, two neighbours made one.
std::vector<Mutation> all_mutations(const Schedule& schedule);

}  // namespace counterflow
