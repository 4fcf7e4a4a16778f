#include "counterflow/fold.h"

#include <string>

#include "counterflow/error.h"

namespace counterflow {
namespace {

/// The pass with its micro-batch in another place; the stage, and so the way through the model, stays.
template <typename Move>
Action map_micro_batches(const Action& action, Move&& move) {
  const auto passes = action.passes();
  Pass first = passes[0];
  first.micro_batch = move(first);
  if (!action.is_overlap()) return first;
  Pass second = passes[1];
  second.micro_batch = move(second);
  return Action::overlap(first, second);
}

}  // namespace

Schedule unfold(const Schedule& v, const std::string& name) {
  const int p = v.num_ranks();
  const int m = v.num_micro_batches();
  if (p == 0 || v.placement != Placement::v(p, m)) {
    throw InvalidConfig(
        "unfold: expected a V placement (two stages a rank, 0 … p-1 and back), found another one");
  }
  Schedule result{
      name.empty() ? v.name + "-unfolded" : name, Placement::bidirectional(2 * p, 2 * m), v.passes, {}, {}};
  result.actions.resize(2 * p);
  for (int rank = 0; rank < p; ++rank) {
    for (const Action& action : v.actions[rank]) {
      // A V's first leg (stages below p) stays on this rank; its second belongs to micro-batches of the other
      // direction, whose first leg runs on the mirror image. There it is the other way round.
      const auto here = [&](const Pass& pass) {
        return pass.stage < p ? pass.micro_batch : pass.micro_batch + m;
      };
      const auto mirrored = [&](const Pass& pass) {
        return pass.stage < p ? pass.micro_batch + m : pass.micro_batch;
      };
      result.actions[rank].push_back(map_micro_batches(action, here));
      result.actions[2 * p - 1 - rank].push_back(map_micro_batches(action, mirrored));
    }
  }
  return result;
}

Schedule fold(const Schedule& bidirectional, const std::string& name) {
  const int ranks = bidirectional.num_ranks();
  const int m = bidirectional.num_micro_batches() / 2;
  if (ranks == 0 || ranks % 2 != 0 || 2 * m != bidirectional.num_micro_batches() ||
      bidirectional.placement != Placement::bidirectional(ranks, 2 * m)) {
    throw InvalidConfig(
        "fold: expected a bidirectional placement on an even number of ranks, found another one");
  }
  Schedule result{name.empty() ? bidirectional.name + "-folded" : name,
                  Placement::v(ranks / 2, m),
                  bidirectional.passes,
                  {},
                  {}};
  for (int rank = 0; rank < ranks / 2; ++rank) {
    auto& actions = result.actions.emplace_back();
    for (const Action& action : bidirectional.actions[rank]) {
      actions.push_back(map_micro_batches(action, [&](const Pass& pass) { return pass.micro_batch % m; }));
    }
  }
  if (unfold(result).actions != bidirectional.actions) {
    throw InvalidConfig("fold: expected rank r and rank " + std::to_string(ranks - 1) +
                        " - r to run the same with the directions exchanged, found a difference");
  }
  return result;
}

}  // namespace counterflow
