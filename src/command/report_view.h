// What `report` says of a recording or of a profiler's trace.
#pragma once

#include <string>
#include <vector>

#include "counterflow/idle.h"
#include "counterflow/profile_trace.h"
#include "counterflow/timeline.h"

namespace counterflow::command {

/// A run, what it followed, and where its idle time went. Both timelines have a unit of time.
struct RunReport {
  Timeline run;
  Timeline plan;
  std::string costs;  ///< that the plan is under
  std::vector<IdleSplit> idle;
};

std::string run_report_text(const RunReport& report);
std::string run_report_json(const RunReport& report);

std::string profile_report_text(const ProfileTrace& trace, const std::string& file);
std::string profile_report_json(const ProfileTrace& trace);

}  // namespace counterflow::command
