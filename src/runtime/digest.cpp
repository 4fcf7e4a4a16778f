#include "digest.h"

#include <functional>

namespace counterflow::runtime {

std::string digest(const Schedule& schedule, const PipelineOptions& options) {
  std::size_t hash = std::hash<int>()(options.replicas);
  const auto add = [&hash](std::size_t value) { hash = hash * 1000003 + value; };
  add(!options.recorder ? 0 : !options.streams ? 3 : *options.streams == 0 ? 2 : 1);
  if (options.gradient_type) add(1 + static_cast<std::size_t>(*options.gradient_type));
  for (const auto& actions : schedule.actions) {
    add(actions.size());
    for (const Action& action : actions) add(std::hash<std::string>()(to_string(action)));
  }
  for (const Direction& direction : schedule.placement.directions()) {
    add(direction.num_micro_batches);
    for (const std::int32_t rank : direction.rank_of_stage) add(rank);
  }
  for (const Tie& tie : options.ties)
    for (const Tie::Member& member : tie.members) add(std::hash<std::string>()(member.name) + member.stage);
  return std::to_string(hash);
}

}  // namespace counterflow::runtime
