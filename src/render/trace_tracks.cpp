#include "trace_tracks.h"

#include <algorithm>

namespace counterflow {
namespace {

bool has_bar(const Timeline& timeline, std::int32_t rank, std::int32_t bar) {
  return bar >= 0 && static_cast<std::size_t>(bar) < timeline.ranks[rank].bars.size();
}

void sort_by_bar(std::vector<FlowEnd>& ends) {
  std::sort(ends.begin(), ends.end(), [](const FlowEnd& a, const FlowEnd& b) {
    return a.bar != b.bar ? a.bar < b.bar : a.flow < b.flow;
  });
}

}  // namespace

std::int64_t trace_unit_ns(const Timeline& timeline) {
  constexpr std::int64_t kMicrosecond = 1000;
  const std::int64_t wanted = timeline.unit_ns == 0 ? kMicrosecond : timeline.unit_ns;
  constexpr Time kMost = Time{1} << 62;
  return timeline.end() <= kMost / wanted ? wanted : 1;
}

std::vector<RankFlows> flows_of(const Timeline& timeline, std::uint64_t& first) {
  std::vector<RankFlows> flows(timeline.ranks.size());
  for (const LinkTimeline& link : timeline.links) {
    for (const Transfer& transfer : link.transfers) {
      if (!has_bar(timeline, link.from, transfer.sender) || !has_bar(timeline, link.to, transfer.receiver))
        continue;
      flows[link.from].out.push_back({transfer.sender, first});
      flows[link.to].in.push_back({transfer.receiver, first});
      ++first;
    }
  }
  for (RankFlows& one : flows) {
    sort_by_bar(one.out);
    sort_by_bar(one.in);
  }
  return flows;
}

std::vector<std::int32_t> lanes_of(const LinkTimeline& link) {
  std::vector<std::int32_t> lanes;
  lanes.reserve(link.transfers.size());
  std::vector<Time> free_at;  // [lane]
  for (const Transfer& transfer : link.transfers) {
    const auto found =
        std::find_if(free_at.begin(), free_at.end(), [&](Time time) { return time <= transfer.begin; });
    lanes.push_back(static_cast<std::int32_t>(found - free_at.begin()));
    if (found == free_at.end()) {
      free_at.push_back(transfer.end);
    } else {
      *found = transfer.end;
    }
  }
  return lanes;
}

std::string rank_track_name(std::size_t rank) {
  return "rank " + std::to_string(rank);
}

std::string link_track_name(const LinkTimeline& link) {
  return "link " + std::to_string(link.from) + " to " + std::to_string(link.to);
}

}  // namespace counterflow
