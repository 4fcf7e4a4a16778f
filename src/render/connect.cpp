// What follows from the bars and transfers of a recorded timeline.
#include <algorithm>
#include <optional>
#include <vector>

#include "activations.h"
#include "counterflow/recording.h"
#include "waits.h"

namespace counterflow {
namespace {

void connect_transfers(Timeline& timeline) {
  const PassIndex index(timeline);
  for (LinkTimeline& link : timeline.links) {
    for (Transfer& transfer : link.transfers) {
      const auto sender = index.sender(transfer.pass);
      const auto receiver = index.receiver(transfer.pass);
      transfer.sender = sender && sender->rank == link.from ? sender->bar : -1;
      transfer.receiver = receiver && receiver->rank == link.to ? receiver->bar : -1;
    }
  }
}

std::optional<BarId> last_bar(const Timeline& timeline) {
  std::optional<BarId> last;
  Time end = 0;
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    const std::vector<Bar>& bars = timeline.ranks[rank].bars;
    if (bars.empty() || (last && bars.back().end <= end)) continue;
    end = bars.back().end;
    last = BarId{static_cast<std::int32_t>(rank), static_cast<std::int32_t>(bars.size()) - 1};
  }
  return last;
}

/// Clocks of ranks may differ, and a file may be wrong: a bar that would come twice ends the path.
std::vector<BarId> critical_path(const Timeline& timeline) {
  const Waits waits(timeline);
  std::vector<std::vector<bool>> seen;
  for (const RankTimeline& rank : timeline.ranks) seen.emplace_back(rank.bars.size(), false);
  std::vector<BarId> path;
  std::optional<BarId> at = last_bar(timeline);
  while (at && !seen[at->rank][at->bar]) {
    seen[at->rank][at->bar] = true;
    path.push_back(*at);
    const auto wait = waits.last(*at);
    at = wait ? std::optional(wait->bar) : std::nullopt;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace

void connect(Timeline& timeline) {
  connect_transfers(timeline);
  for (RankTimeline& rank : timeline.ranks)
    rank.activations = count_activations(rank.bars, UniformCost{}, timeline.passes);
  timeline.critical_path = critical_path(timeline);
}

}  // namespace counterflow
