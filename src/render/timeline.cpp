#include "counterflow/timeline.h"

#include <algorithm>
#include <string>

#include "../core/channels.h"
#include "../core/dataflow.h"
#include "activations.h"
#include "counterflow/error.h"

namespace counterflow {
namespace {

/// The bar that ran a pass, for the passes that consume messages. A cell is a stage and a micro-batch.
class Consumers {
 public:
  explicit Consumers(const Schedule& schedule)
      : num_stages_(schedule.num_stages()),
        num_micro_batches_(schedule.num_micro_batches()),
        forward_(num_cells(), -1),
        backward_(schedule.passes == Passes::kTraining ? num_cells() : 0, -1) {
    for (const auto& actions : schedule.actions) {
      for (std::size_t step = 0; step < actions.size(); ++step) {
        for (const Pass& pass : actions[step].passes()) {
          if (pass.kind == PassKind::kForward) forward_[cell(pass)] = static_cast<std::int32_t>(step);
          if (sends_gradient(pass.kind)) backward_[cell(pass)] = static_cast<std::int32_t>(step);
        }
      }
    }
  }

  std::int32_t of(const Message& message) const {
    return message.is_gradient ? backward_[cell(backward(message.stage - 1, message.micro_batch))]
                               : forward_[cell(forward(message.stage + 1, message.micro_batch))];
  }

 private:
  std::size_t num_cells() const { return static_cast<std::size_t>(num_stages_) * num_micro_batches_; }
  std::size_t cell(const Pass& pass) const {
    return static_cast<std::size_t>(pass.stage) * num_micro_batches_ + pass.micro_batch;
  }

  int num_stages_;
  int num_micro_batches_;
  std::vector<std::int32_t> forward_;   // [cell]
  std::vector<std::int32_t> backward_;  // [cell]
};

void check_matches(const Schedule& schedule, const Simulation& simulation) {
  bool matches = simulation.start.size() == schedule.actions.size();
  for (std::size_t rank = 0; matches && rank < schedule.actions.size(); ++rank) {
    matches = simulation.start[rank].size() == schedule.actions[rank].size() &&
              simulation.end[rank].size() == schedule.actions[rank].size();
  }
  if (!matches) throw InvalidConfig("timeline: the simulation is not of this schedule; simulate() it first");
}

std::vector<Bar> bars_of(const Schedule& schedule, const Simulation& simulation, int rank) {
  const auto& actions = schedule.actions[rank];
  std::vector<Bar> bars;
  bars.reserve(actions.size());
  for (std::size_t step = 0; step < actions.size(); ++step)
    bars.push_back({actions[step], simulation.start[rank][step], simulation.end[rank][step]});
  return bars;
}

/// The messages that one rank sends, with the times at which simulate() sends them: at the end of the bar,
/// or, where there are links, when the link is free.
void add_transfers(const Schedule& schedule, const CostModel& costs, const Consumers& consumers,
                   const Channels& channels, int rank, Timeline& timeline) {
  const Placement& placement = schedule.placement;
  const std::vector<Bar>& bars = timeline.ranks[rank].bars;
  for (std::size_t index = 0; index < bars.size(); ++index) {
    for (const Pass& pass : bars[index].action.passes()) {
      const auto output = output_of(pass, schedule.num_stages());
      if (!output) continue;
      const int to = consumer_rank(placement, *output);
      if (to == rank) continue;
      auto& transfers = timeline.links[channels.find(rank, to)].transfers;
      Time begin = bars[index].end;
      if (costs.has_links() && !transfers.empty()) begin = std::max(begin, transfers.back().end);
      const std::int64_t bytes =
          costs.stage(output->is_gradient ? output->stage - 1 : output->stage).output_bytes;
      transfers.push_back({pass, static_cast<std::int32_t>(index), consumers.of(*output), begin,
                           begin + costs.transfer(rank, to, bytes)});
    }
  }
}

}  // namespace

Timeline make_timeline(const Schedule& schedule, const CostModel& costs, const Simulation& simulation) {
  check_matches(schedule, simulation);
  Timeline timeline;
  timeline.name = schedule.name;
  timeline.placement = schedule.placement;
  timeline.passes = schedule.passes;
  timeline.ranks.resize(schedule.num_ranks());

  const Channels channels(schedule.placement, schedule.passes);
  timeline.links.resize(channels.size());
  for (int c = 0; c < channels.size(); ++c) {
    timeline.links[c].from = channels.from(c);
    timeline.links[c].to = channels.to(c);
  }
  const Consumers consumers(schedule);
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    RankTimeline& one = timeline.ranks[rank];
    one.bars = bars_of(schedule, simulation, rank);
    one.activations = count_activations(one.bars, costs, schedule.passes);
    add_transfers(schedule, costs, consumers, channels, rank, timeline);
  }
  for (const CriticalStep& step : simulation.critical_path)
    timeline.critical_path.push_back({step.rank, step.step});
  return timeline;
}

Time Timeline::end() const {
  Time last = 0;
  for (const RankTimeline& rank : ranks) {
    for (const Bar& bar : rank.bars) last = std::max(last, bar.end);
  }
  return last;
}

std::vector<RankSummary> summarize(const Timeline& timeline) {
  const Time end = timeline.end();
  std::vector<RankSummary> summaries;
  summaries.reserve(timeline.ranks.size());
  for (const RankTimeline& rank : timeline.ranks) {
    RankSummary summary;
    Time last = 0;
    for (const Bar& bar : rank.bars) {
      summary.busy += bar.duration();
      last = std::max(last, bar.end);
    }
    summary.idle = end - summary.busy;
    if (!rank.bars.empty()) summary.span_idle = last - rank.bars.front().begin - summary.busy;
    for (const ActivationSample& sample : rank.activations) {
      summary.peak_activations = std::max(summary.peak_activations, sample.count);
      summary.peak_bytes = std::max(summary.peak_bytes, sample.bytes);
    }
    summaries.push_back(summary);
  }
  return summaries;
}

double bubble_ratio(const Timeline& timeline) {
  const Time end = timeline.end();
  if (end == 0) return 0;
  double idle = 0;
  for (const RankSummary& rank : summarize(timeline)) idle += static_cast<double>(rank.idle);
  return idle / (static_cast<double>(timeline.ranks.size()) * static_cast<double>(end));
}

}  // namespace counterflow
