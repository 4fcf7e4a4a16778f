#include "counterflow/prediction.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <optional>

#include "counterflow/error.h"
#include "counterflow/simulate.h"
#include "waits.h"

namespace counterflow {
namespace {

double ratio(Time idle, Time step, std::size_t ranks) {
  const double all = static_cast<double>(step) * static_cast<double>(ranks);
  return all == 0 ? 0 : static_cast<double>(idle) / all;
}

/// Which pass of a bar gave what another waited for.
Pass producer_of(const Bar& bar, const Action& waiting) {
  for (const Pass& pass : bar.action.passes())
    for (const Pass& needs : waiting.passes())
      if (pass.micro_batch == needs.micro_batch &&
          (pass.kind == PassKind::kForward) == (needs.kind == PassKind::kForward))
        return pass;
  return bar.action.passes()[0];
}

/// Sorts the idle time of a rank by its reasons, in the timeline's own unit.
void explain(const Timeline& timeline, const Waits& waits, int rank, RankPrediction& found) {
  std::map<std::int32_t, RankPrediction::Wait> by_rank;
  Time free = 0;
  const std::vector<Bar>& bars = timeline.ranks[rank].bars;
  for (std::size_t i = 0; i < bars.size(); ++i) {
    found.busy += bars[i].duration();
    const Time gap = bars[i].begin - free;
    const auto last = waits.last({rank, static_cast<std::int32_t>(i)});
    Time waited = 0;
    if (last && last->bar.rank != rank) {
      waited = std::clamp<Time>(last->arrived - free, 0, std::max<Time>(gap, 0));
      const Bar& producer = timeline.ranks[last->bar.rank].bars[last->bar.bar];
      RankPrediction::Wait& wait = by_rank[last->bar.rank];
      wait.rank = last->bar.rank;
      wait.time += waited;
      if (waited > wait.longest_time) {
        wait.longest_time = waited;
        wait.longest = producer_of(producer, bars[i].action);
      }
    }
    found.between += gap - waited;
    free = bars[i].end;
  }
  found.after_last = timeline.end() - free;
  for (const auto& [other, wait] : by_rank)
    if (wait.time > 0) found.waits.push_back(wait);
  std::stable_sort(found.waits.begin(), found.waits.end(),
                   [](const auto& a, const auto& b) { return a.time > b.time; });
}

/// From the timeline's unit to microseconds.
void convert(RankPrediction& rank, std::int64_t unit_ns) {
  const auto convert_time = [unit_ns](Time& time) { time = (time * unit_ns + 500) / 1000; };
  for (Time* time : {&rank.busy, &rank.between, &rank.after_last}) convert_time(*time);
  for (RankPrediction::Wait& wait : rank.waits) {
    convert_time(wait.time);
    convert_time(wait.longest_time);
  }
}

template <class... Values>
std::string formatted(const char* format, Values... values) {
  std::array<char, 160> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

double in_ms(Time microseconds) {
  return static_cast<double>(microseconds) / 1000;
}

}  // namespace

double Prediction::predicted_bubble() const {
  Time idle = 0;
  for (const RankPrediction& rank : ranks) idle += rank.predicted_idle;
  return ratio(idle, predicted_step, ranks.size());
}

double Prediction::bubble() const {
  Time idle = 0;
  for (const RankPrediction& rank : ranks) idle += rank.idle;
  return ratio(idle, step, ranks.size());
}

Prediction compare_with_prediction(const Schedule& schedule, const CostModel& costs,
                                   const Timeline& measured) {
  if (measured.ranks.size() != static_cast<std::size_t>(schedule.num_ranks()))
    throw InvalidConfig("a step of " + std::to_string(measured.ranks.size()) +
                        " ranks was measured; the schedule has " + std::to_string(schedule.num_ranks()));
  if (measured.unit_ns <= 0) throw InvalidConfig("a measured step needs a unit of time (Timeline::unit_ns)");
  const Simulation plan = simulate(schedule, costs);
  const Waits waits(measured);
  Prediction prediction;
  prediction.predicted_step = plan.makespan;
  prediction.step = (measured.end() * measured.unit_ns + 500) / 1000;
  for (int number = 0; number < schedule.num_ranks(); ++number) {
    RankPrediction rank;
    explain(measured, waits, number, rank);
    convert(rank, measured.unit_ns);
    rank.predicted_busy = plan.ranks[number].busy;
    rank.predicted_idle = plan.ranks[number].idle;
    rank.idle = prediction.step - rank.busy;
    prediction.ranks.push_back(std::move(rank));
  }
  return prediction;
}

std::string format_prediction(const Prediction& prediction) {
  const double difference =
      prediction.predicted_step == 0 ? 0 : in_ms(prediction.step) / in_ms(prediction.predicted_step) - 1;
  std::string text = formatted(
      "step: predicted %.1f ms, measured %.1f ms (%+.1f %%); bubble: predicted %.1f %%, measured "
      "%.1f %%\n",
      in_ms(prediction.predicted_step), in_ms(prediction.step), 100 * difference,
      100 * prediction.predicted_bubble(), 100 * prediction.bubble());
  text += "       predicted ms       measured ms\n";
  text += "rank    busy    idle      busy    idle  waited for\n";
  for (std::size_t i = 0; i < prediction.ranks.size(); ++i) {
    const RankPrediction& rank = prediction.ranks[i];
    text += formatted("%4zu %7.1f %7.1f   %7.1f %7.1f  ", i, in_ms(rank.predicted_busy),
                      in_ms(rank.predicted_idle), in_ms(rank.busy), in_ms(rank.idle));
    for (const RankPrediction::Wait& wait : rank.waits)
      text += formatted("rank %d %.1f (longest %s, %.1f), ", wait.rank, in_ms(wait.time),
                        to_string(wait.longest).c_str(), in_ms(wait.longest_time));
    text += formatted("nobody %.1f, the end %.1f\n", in_ms(rank.between), in_ms(rank.after_last));
  }
  return text;
}

}  // namespace counterflow
