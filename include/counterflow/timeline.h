// What ran when: the bars of each rank, the messages between ranks and the activations held. Every view draws
// a Timeline, and none of them knows whether it is a plan (simulated) or a real run (recorded).
//
// Times run from 0, the begin of the first bar of the plan or of the recorded step. Plain data, safe to read
// from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/schedule.h"
#include "counterflow/simulate.h"

namespace counterflow {

/// One action of a rank.
struct Bar {
  Action action;
  Time begin = 0;
  Time end = 0;

  Time duration() const { return end - begin; }

  friend bool operator==(const Bar&, const Bar&) = default;
};

/// One message: the output of a forward, or the gradient of a B or I.
struct Transfer {
  Pass pass;                   ///< that produced it
  std::int32_t sender = -1;    ///< index of the sending rank's bar; -1 where it was not recorded
  std::int32_t receiver = -1;  ///< index of the receiving rank's bar that needs it; -1 as above
  Time begin = 0;
  Time end = 0;  ///< its arrival

  friend bool operator==(const Transfer&, const Transfer&) = default;
};

/// From `time` on a rank holds this much, until the next sample.
struct ActivationSample {
  Time time = 0;
  std::int32_t count = 0;  ///< stage activations, each from the begin of F to the end of B or W
  std::int64_t bytes = 0;  ///< activation_bytes until B or I ends, then weight_store_bytes; 0 if not known

  friend bool operator==(const ActivationSample&, const ActivationSample&) = default;
};

struct RankTimeline {
  std::vector<Bar> bars;  ///< in the order in which they ran
  std::vector<ActivationSample> activations;
};

/// The messages of one directed pair of ranks.
struct LinkTimeline {
  std::int32_t from = 0;
  std::int32_t to = 0;
  std::vector<Transfer> transfers;  ///< in the order of sending
};

/// Bar `bar` of rank `rank`.
struct BarId {
  std::int32_t rank = 0;
  std::int32_t bar = 0;

  friend bool operator==(const BarId&, const BarId&) = default;
};

/// Where the time of a rank in a real run went (split_idle()). The four kinds of idle time add up to the
/// run's end - busy.
struct IdleSplit {
  Time busy = 0;        ///< the sum of its bars
  Time waiting = 0;     ///< for a peer that had not sent yet, or at the end for the others: what the schedule
                        ///< makes a rank wait where all stages take the same
  Time transfer = 0;    ///< for a message under way
  Time launch_gap = 0;  ///< everything was there, and the action had not begun
  Time imbalance = 0;   ///< waiting beyond that of equal stages: peers were slower than the mean

  Time idle() const { return waiting + transfer + launch_gap + imbalance; }
};

struct Timeline {
  std::string name;
  Placement placement;
  Passes passes = Passes::kTraining;

  /// How long a unit of Time is; 0 where it stands for nothing in particular.
  std::int64_t unit_ns = 0;

  std::vector<RankTimeline> ranks;
  std::vector<LinkTimeline> links;   ///< by sender, then receiver
  std::vector<BarId> critical_path;  ///< from the first bar to the last; empty where it is not known
  std::vector<IdleSplit> idle;       ///< of a real run, one for each rank; empty where it is not known

  /// The last end of a bar.
  Time end() const;
};

/// What a margin says about a rank.
struct RankSummary {
  Time busy = 0;       ///< the sum of its bars
  Time idle = 0;       ///< the timeline's end - busy
  Time span_idle = 0;  ///< last end - first begin - busy
  std::int32_t peak_activations = 0;
  std::int64_t peak_bytes = 0;
};

/// One for each rank.
std::vector<RankSummary> summarize(const Timeline& timeline);

/// Sum of idle over ranks x end; 0 for an empty timeline.
double bubble_ratio(const Timeline& timeline);

/// The plan: what simulate(schedule, costs) found, `simulation`, as a timeline. Cost grows linearly with the
/// number of passes. Throws InvalidConfig where the simulation is of another schedule.
Timeline make_timeline(const Schedule& schedule, const CostModel& costs, const Simulation& simulation);

}  // namespace counterflow
