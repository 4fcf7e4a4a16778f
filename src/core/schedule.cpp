#include "counterflow/schedule.h"

namespace counterflow {

Schedule forward_only(const Schedule& schedule) {
  Schedule result{schedule.name, schedule.placement, Passes::kForward, {}, {}};
  result.actions.resize(schedule.actions.size());
  for (std::size_t rank = 0; rank < schedule.actions.size(); ++rank) {
    for (const Action& action : schedule.actions[rank]) {
      const Pass& first = action.passes()[0];
      if (first.kind == PassKind::kForward) result.actions[rank].emplace_back(first);
    }
  }
  return result;
}

}  // namespace counterflow
