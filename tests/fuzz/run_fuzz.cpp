// Any bytes as a recording or a profiler's trace: they are read or refused, and what was read survives being
// written, drawn and reported.
#include "counterflow/error.h"
#include "counterflow/idle.h"
#include "counterflow/profile_trace.h"
#include "counterflow/recording.h"
#include "counterflow/render.h"
#include "fuzz/fuzz.h"

namespace counterflow {
namespace {

Schedule schedule_of(const Timeline& run) {
  Schedule schedule;
  schedule.placement = run.placement;
  schedule.passes = run.passes;
  for (const RankTimeline& rank : run.ranks) {
    auto& actions = schedule.actions.emplace_back();
    for (const Bar& bar : rank.bars) actions.push_back(bar.action);
  }
  return schedule;
}

void use(const Timeline& run) {
  const Timeline again = parse_recording(format_recording(run));
  fuzz::check(again.name == run.name && again.placement == run.placement && again.unit_ns == run.unit_ns,
              "parse_recording(format_recording(r)) == r");
  for (std::size_t rank = 0; rank < run.ranks.size(); ++rank)
    fuzz::check(again.ranks[rank].bars == run.ranks[rank].bars, "recordings keep their bars");
  for (const auto draw : {&draw_html, &chrome_trace, &perfetto_trace}) {
    try {
      draw({&run, 1});
    } catch (const InvalidConfig&) {  // too large for a view
    }
  }
  try {
    split_idle(run, schedule_of(run));
  } catch (const InvalidConfig&) {  // a step that cannot run to its end
  }
}

void use(const ProfileTrace& trace) {
  fuzz::check(trace.communication_hidden <= trace.communication_busy, "hidden is a part of communication");
  try {
    costs_of(trace);
  } catch (const InvalidConfig&) {  // no forward or no backward
  }
}

}  // namespace
}  // namespace counterflow

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace counterflow;
  const std::string_view text = fuzz::as_text(data, size);
  try {
    if (is_recording(text))
      use(parse_recording(text));
    else
      use(parse_profile_trace(text));
  } catch (const ParseError&) {
  }
  return 0;
}
