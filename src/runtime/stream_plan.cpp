#include "stream_plan.h"

#include <algorithm>
#include <cstddef>

namespace counterflow::runtime {

std::vector<std::int32_t> assign_streams(const Schedule& schedule, int rank, int number) {
  const auto index = [&](const Pass& pass) {
    return static_cast<std::size_t>(pass.stage) * schedule.num_micro_batches() + pass.micro_batch;
  };
  std::vector<Pass> passes;
  for (const Action& action : schedule.actions[rank])
    for (const Pass& pass : action.passes()) passes.push_back(pass);
  std::vector<std::int32_t> stream_of(
      static_cast<std::size_t>(schedule.num_stages()) * schedule.num_micro_batches(), -1);
  std::vector<std::size_t> given(number, 0);  // when each stream was given away last
  for (std::size_t i = 0; i < passes.size(); ++i) {
    if (passes[i].kind != PassKind::kForward) continue;
    const auto next = std::find_if(passes.begin() + static_cast<std::ptrdiff_t>(i), passes.end(),
                                   [](const Pass& pass) { return pass.kind != PassKind::kForward; });
    const std::int32_t taken = next == passes.end() ? -1 : stream_of[index(*next)];
    std::int32_t best = taken == 0 && number > 1 ? 1 : 0;
    for (std::int32_t stream = 0; stream < number; ++stream)
      if (stream != taken && given[stream] < given[best]) best = stream;
    given[best] = i + 1;
    stream_of[index(passes[i])] = best;
  }
  return stream_of;
}

}  // namespace counterflow::runtime
