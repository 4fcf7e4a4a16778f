#include "counterflow/idle.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/simulate.h"
#include "waits.h"

namespace counterflow {
namespace {

/// Of a gap before a bar, or of the time after the last.
struct Gap {
  Time waiting = 0;
  Time transfer = 0;
  Time launch = 0;
};

/// The gap begins at `from`. What came from the same rank was there before.
Gap split_gap(Time from, Time to, const std::vector<Wait>& waits) {
  Time sent = from;
  Time arrived = from;
  for (const Wait& wait : waits) {
    sent = std::max(sent, std::min(wait.sent, to));
    arrived = std::max(arrived, std::min(wait.arrived, to));
  }
  arrived = std::max(arrived, sent);
  return {.waiting = sent - from, .transfer = arrived - sent, .launch = to - arrived};
}

std::vector<IdleSplit> split_without_imbalance(const Timeline& run) {
  const Waits waits(run);
  const Time end = run.end();
  std::vector<IdleSplit> splits;
  for (std::size_t rank = 0; rank < run.ranks.size(); ++rank) {
    IdleSplit& split = splits.emplace_back();
    const std::vector<Bar>& bars = run.ranks[rank].bars;
    Time free_from = 0;
    for (std::size_t bar = 0; bar < bars.size(); ++bar) {
      const Gap gap = split_gap(free_from, bars[bar].begin,
                                waits.of({static_cast<std::int32_t>(rank), static_cast<std::int32_t>(bar)}));
      split.busy += bars[bar].duration();
      split.waiting += gap.waiting;
      split.transfer += gap.transfer;
      split.launch_gap += gap.launch;
      free_from = bars[bar].end;
    }
    split.waiting += end - free_from;
  }
  return splits;
}

/// The mean of times, whose sum may be larger than any Time.
struct Mean {
  double sum = 0;
  std::size_t count = 0;

  void add(Time time) {
    sum += static_cast<double>(time);
    ++count;
  }
  Time value() const { return count == 0 ? 0 : std::llround(sum / static_cast<double>(count)); }
};

/// What ranks wait for one another where all stages take the run's mean, launching included.
std::vector<Time> balanced_waiting(const Timeline& run, const Schedule& schedule,
                                   const std::vector<IdleSplit>& splits) {
  Mean launch;
  for (std::size_t rank = 0; rank < run.ranks.size(); ++rank) {
    launch.sum += static_cast<double>(splits[rank].launch_gap);
    launch.count += run.ranks[rank].bars.size();
  }
  CostModel costs = mean_costs(run);
  StageCost& stage = costs.stages[0];
  stage.f += launch.value();
  stage.i += launch.value();
  if (schedule.passes == Passes::kTraining && costs.overlap) *costs.overlap += launch.value();
  std::vector<Time> waiting;
  for (const IdleSplit& split :
       split_without_imbalance(make_timeline(schedule, costs, simulate(schedule, costs))))
    waiting.push_back(split.waiting);
  return waiting;
}

std::string differs(int rank, const std::string& expected, const std::string& found) {
  return "rank " + std::to_string(rank) + ": expected " + expected + " as in the schedule, found " + found +
         " in the recording; give the schedule that the run followed";
}

/// That bars run the actions, where a B may have become an I and right after it a W.
void check_rank(int rank, const std::vector<Bar>& bars, const std::vector<Action>& actions) {
  std::size_t bar = 0;
  for (const Action& action : actions) {
    if (bar == bars.size()) throw InvalidConfig(differs(rank, to_string(action), "no more actions"));
    const Pass& pass = action.passes()[0];
    const Action split = input_gradient(pass.stage, pass.micro_batch);
    const bool is_split = !action.is_overlap() && pass.kind == PassKind::kBackward &&
                          bars[bar].action == split && bar + 1 < bars.size() &&
                          bars[bar + 1].action == Action(weight_gradient(pass.stage, pass.micro_batch));
    if (!is_split && bars[bar].action != action)
      throw InvalidConfig(differs(rank, to_string(action), to_string(bars[bar].action)));
    bar += is_split ? 2 : 1;
  }
  if (bar < bars.size()) throw InvalidConfig(differs(rank, "no more actions", to_string(bars[bar].action)));
}

}  // namespace

void check_follows(const Timeline& run, const Schedule& schedule) {
  if (run.placement != schedule.placement || run.passes != schedule.passes)
    throw InvalidConfig(
        "expected a recording of the schedule's ranks, stages, micro-batches and passes, found " +
        std::to_string(run.placement.num_ranks()) + " ranks, " + std::to_string(run.placement.num_stages()) +
        " stages and " + std::to_string(run.placement.num_micro_batches()) +
        " micro-batches laid out otherwise; give the schedule that the run followed");
  for (int rank = 0; rank < schedule.num_ranks(); ++rank)
    check_rank(rank, run.ranks[rank].bars, schedule.actions[rank]);
}

CostModel mean_costs(const Timeline& run) {
  Mean f;
  Mean b;
  Mean i;
  Mean w;
  Mean pair;
  Mean message;
  for (const RankTimeline& rank : run.ranks) {
    for (const Bar& bar : rank.bars) {
      const PassKind kind = bar.action.passes()[0].kind;
      Mean& mean = bar.action.is_overlap()            ? pair
                   : kind == PassKind::kForward       ? f
                   : kind == PassKind::kBackward      ? b
                   : kind == PassKind::kInputGradient ? i
                                                      : w;
      mean.add(bar.duration());
    }
  }
  for (const LinkTimeline& link : run.links) {
    for (const Transfer& transfer : link.transfers) {
      // A recorder does not see how long a message took that lay there before it was wanted.
      if (transfer.end > transfer.begin) message.add(transfer.end - transfer.begin);
    }
  }
  CostModel costs;
  StageCost& stage = costs.stages[0];
  stage.f = f.value();
  stage.i = i.count > 0 ? i.value() : b.value() / 2;
  stage.w = w.count > 0 ? w.value() : b.value() - b.value() / 2;
  if (pair.count > 0) costs.overlap = pair.value();
  costs.p2p = message.value();
  return costs;
}

std::vector<IdleSplit> split_idle(const Timeline& run, const Schedule& schedule) {
  check_follows(run, schedule);
  std::vector<IdleSplit> splits = split_without_imbalance(run);
  const std::vector<Time> balanced = balanced_waiting(run, schedule, splits);
  for (std::size_t rank = 0; rank < splits.size(); ++rank) {
    splits[rank].imbalance = std::max<Time>(0, splits[rank].waiting - balanced[rank]);
    splits[rank].waiting -= splits[rank].imbalance;
  }
  return splits;
}

}  // namespace counterflow
