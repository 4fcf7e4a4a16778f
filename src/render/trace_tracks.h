// What both kinds of traces are made of: flows between bars, lanes of links, times in nanoseconds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/timeline.h"

namespace counterflow {

/// How many nanoseconds a timeline's unit of time takes in a trace: a microsecond where the unit stands for
/// nothing in particular, less where times so long could not be written.
std::int64_t trace_unit_ns(const Timeline& timeline);

/// The arrows that begin or end at the bars of one rank, in the order of its bars.
struct FlowEnd {
  std::int32_t bar = 0;
  std::uint64_t flow = 0;  ///< the same at both ends
};

struct RankFlows {
  std::vector<FlowEnd> out;
  std::vector<FlowEnd> in;
};

/// One for each rank. Flows are numbered from `first` on; `first` becomes the first number not used.
std::vector<RankFlows> flows_of(const Timeline& timeline, std::uint64_t& first);

/// A track shows one thing at a time, but messages of a link may overlap: for each transfer of a link the
/// lane that it goes to, 0 where that is free.
std::vector<std::int32_t> lanes_of(const LinkTimeline& link);

/// "rank 3", "link 0 to 1".
std::string rank_track_name(std::size_t rank);
std::string link_track_name(const LinkTimeline& link);

}  // namespace counterflow
