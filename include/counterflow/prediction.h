// Predicted against measured: what a cost model says of a step, beside a step that was run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/schedule.h"
#include "counterflow/timeline.h"

namespace counterflow {

/// Times in microseconds. Idle is the step's time less busy, for both.
struct RankPrediction {
  /// Another rank that was waited for.
  struct Wait {
    std::int32_t rank = 0;
    Time time = 0;          ///< in all
    Pass longest;           ///< whose result came latest
    Time longest_time = 0;  ///< that this one was waited for
  };

  Time predicted_busy = 0;
  Time predicted_idle = 0;
  Time busy = 0;
  Time idle = 0;            ///< the sum of the three below
  std::vector<Wait> waits;  ///< longest first
  Time between = 0;         ///< all that an action needed was there
  Time after_last = 0;      ///< after the rank's last action
};

struct Prediction {
  Time predicted_step = 0;
  Time step = 0;  ///< from the first action's begin anywhere to the last one's end
  std::vector<RankPrediction> ranks;

  /// The share of ranks x step that is idle.
  double predicted_bubble() const;
  double bubble() const;
};

/// `costs` are in microseconds; `measured` is a step of the schedule, connected (counterflow/recording.h) and
/// with a unit of time. Throws InvalidConfig where it has other ranks, or costs that do not fit.
Prediction compare_with_prediction(const Schedule& schedule, const CostModel& costs,
                                   const Timeline& measured);

/// A table for people, in milliseconds.
std::string format_prediction(const Prediction& prediction);

}  // namespace counterflow
