#include "counterflow/simulate.h"

#include <algorithm>
#include <string>

#include "channels.h"
#include "counterflow/error.h"

namespace counterflow {
namespace {

constexpr Time kNotYet = -1;

/// One run of a schedule. Ranks advance one at a time, each as far as its inputs are known; what a pass
/// produces wakes the one rank that may wait for it. A (stage, micro-batch) pair is a cell of both tables:
/// when the output of its forward arrives at the next stage, and when its gradient arrives at the stage
/// before.
class Run {
 public:
  Run(const Schedule& schedule, const CostModel& costs)
      : schedule_(schedule),
        placement_(schedule.placement),
        costs_(costs),
        last_stage_(schedule.num_stages() - 1),
        channels_(schedule.placement, schedule.passes),
        output_arrival_(num_cells(), kNotYet),
        gradient_arrival_(schedule.passes == Passes::kTraining ? num_cells() : 0, kNotYet),
        next_step_(schedule.num_ranks(), 0),
        waits_for_(schedule.num_ranks(), nullptr),
        link_free_(channels_.size(), 0),
        message_start_(channels_.size()),
        message_end_(channels_.size()) {
    result_.ranks.resize(schedule.num_ranks());
    result_.start.resize(schedule.num_ranks());
    result_.end.resize(schedule.num_ranks());
    result_.channels.resize(channels_.size());
    for (int c = 0; c < channels_.size(); ++c) {
      result_.channels[c].from = channels_.from(c);
      result_.channels[c].to = channels_.to(c);
    }
  }

  Simulation simulate() {
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      result_.start[rank].reserve(schedule_.actions[rank].size());
      result_.end[rank].reserve(schedule_.actions[rank].size());
    }
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      awake_.push_back(rank);
      while (!awake_.empty()) {
        const int next = awake_.back();
        awake_.pop_back();
        advance(next);
      }
    }
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) check_finished(rank);
    measure_ranks();
    measure_channels();
    trace_critical_path();
    return std::move(result_);
  }

 private:
  std::size_t num_cells() const {
    return static_cast<std::size_t>(placement_.num_stages()) * placement_.num_micro_batches();
  }

  std::size_t cell(int stage, int micro_batch) const {
    return static_cast<std::size_t>(stage) * placement_.num_micro_batches() + micro_batch;
  }

  /// When the inputs of a pass were or will be there; null where it has none. A time of kNotYet is still to
  /// come.
  const Time* input(const Pass& pass) const {
    if (pass.kind == PassKind::kForward) {
      return pass.stage == 0 ? nullptr : &output_arrival_[cell(pass.stage - 1, pass.micro_batch)];
    }
    if (pass.kind == PassKind::kWeightGradient) return &gradient_arrival_[cell(pass.stage, pass.micro_batch)];
    if (pass.stage == last_stage_) return &output_arrival_[cell(pass.stage, pass.micro_batch)];
    return &gradient_arrival_[cell(pass.stage + 1, pass.micro_batch)];
  }

  /// The rank that sends a pass its input, or -1 where that comes from the pass's own rank or from nowhere.
  int sender(const Pass& pass, int rank) const {
    int from = rank;
    if (pass.kind == PassKind::kForward && pass.stage > 0)
      from = placement_.rank_of(pass.stage - 1, pass.micro_batch);
    if (sends_gradient(pass.kind) && pass.stage < last_stage_)
      from = placement_.rank_of(pass.stage + 1, pass.micro_batch);
    return from == rank ? -1 : from;
  }

  void advance(int rank) {
    const std::vector<Action>& actions = schedule_.actions[rank];
    std::vector<Time>& ends = result_.end[rank];
    std::size_t step = next_step_[rank];
    for (; step < actions.size(); ++step) {
      const Action& action = actions[step];
      Time start = step == 0 ? 0 : ends[step - 1];
      for (const Pass& pass : action.passes()) {
        const Time* arrival = input(pass);
        if (arrival == nullptr) continue;
        if (*arrival == kNotYet) {
          waits_for_[rank] = arrival;
          next_step_[rank] = step;
          return;
        }
        // A weight gradient follows its input gradient on the same rank: no arrival to wait for.
        if (pass.kind != PassKind::kWeightGradient) start = std::max(start, *arrival);
      }
      const Time end = start + costs_.duration(action);
      result_.start[rank].push_back(start);
      ends.push_back(end);
      for (const Pass& pass : action.passes()) {
        if (const int from = sender(pass, rank); from >= 0)
          message_end_[channels_.find(from, rank)].push_back(end);
        produce(pass, rank, end);
      }
    }
    next_step_[rank] = step;
    waits_for_[rank] = nullptr;
  }

  void produce(const Pass& pass, int rank, Time end) {
    if (pass.kind == PassKind::kForward) {
      const bool is_last = pass.stage == last_stage_;
      deliver(output_arrival_, pass, rank,
              is_last ? rank : placement_.rank_of(pass.stage + 1, pass.micro_batch), end, pass.stage);
    } else if (sends_gradient(pass.kind)) {
      const bool is_first = pass.stage == 0;
      deliver(gradient_arrival_, pass, rank,
              is_first ? rank : placement_.rank_of(pass.stage - 1, pass.micro_batch), end,
              is_first ? 0 : pass.stage - 1);
    }
  }

  /// Hands what a pass produced, as large as the output of `sized_as`, to the rank that consumes it.
  void deliver(std::vector<Time>& table, const Pass& pass, int rank, int to, Time end, int sized_as) {
    Time& arrival = table[cell(pass.stage, pass.micro_batch)];
    if (arrival != kNotYet)
      throw InvalidConfig("rank " + std::to_string(rank) + " runs " + to_string(pass) + " twice");
    arrival = end;
    if (to == rank) return;
    const int channel = channels_.find(rank, to);
    ChannelResult& result = result_.channels[channel];
    const Time transfer = costs_.transfer(rank, to, costs_.stage(sized_as).output_bytes);
    const Time start = costs_.has_links() ? std::max(end, link_free_[channel]) : end;
    arrival = start + transfer;
    link_free_[channel] = arrival;
    result.busy += transfer;
    ++result.messages;
    message_start_[channel].push_back(start);
    if (waits_for_[to] == &arrival) {
      waits_for_[to] = nullptr;
      awake_.push_back(to);
    }
  }

  void check_finished(int rank) const {
    if (next_step_[rank] == schedule_.actions[rank].size()) return;
    throw InvalidConfig("rank " + std::to_string(rank) + " never gets to run " +
                        to_string(schedule_.actions[rank][next_step_[rank]]) +
                        ": its inputs do not come; verify() says why");
  }

  void measure_ranks() {
    for (const auto& ends : result_.end) {
      if (!ends.empty()) result_.makespan = std::max(result_.makespan, ends.back());
    }
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      RankResult& result = result_.ranks[rank];
      const auto& starts = result_.start[rank];
      const auto& ends = result_.end[rank];
      for (std::size_t step = 0; step < ends.size(); ++step) result.busy += ends[step] - starts[step];
      result.idle = result_.makespan - result.busy;
      if (!ends.empty()) result.span_idle = ends.back() - starts.front() - result.busy;
      result_.bubble = std::max(result_.bubble, result.idle);
      measure_memory(rank);
    }
  }

  void measure_memory(int rank) {
    RankResult& result = result_.ranks[rank];
    int held = 0;
    std::int64_t held_bytes = 0;
    for (const Action& action : schedule_.actions[rank]) {
      for (const Pass& pass : action.passes()) {
        const StageCost& cost = costs_.stage(pass.stage);
        switch (pass.kind) {
          case PassKind::kForward:
            ++held;
            held_bytes += cost.activation_bytes;
            result.peak_activations = std::max(result.peak_activations, held);
            result.peak_activation_bytes = std::max(result.peak_activation_bytes, held_bytes);
            if (schedule_.passes == Passes::kForward) {
              --held;
              held_bytes -= cost.activation_bytes;
            }
            break;
          case PassKind::kBackward:
            --held;
            held_bytes -= cost.activation_bytes;
            break;
          case PassKind::kInputGradient:
            held_bytes += cost.weight_store_bytes - cost.activation_bytes;
            break;
          case PassKind::kWeightGradient:
            --held;
            held_bytes -= cost.weight_store_bytes;
            break;
        }
      }
      result.peak_activation_bytes = std::max(result.peak_activation_bytes, held_bytes);
    }
    for (const std::int32_t stage : placement_.stages_on(rank)) {
      const StageCost& cost = costs_.stage(stage);
      result.static_bytes += cost.parameter_bytes + cost.gradient_bytes + cost.optimizer_bytes;
    }
  }

  void measure_channels() {
    for (int c = 0; c < channels_.size(); ++c) {
      const auto& starts = message_start_[c];
      const auto& ends = message_end_[c];
      ChannelResult& channel = result_.channels[c];
      std::size_t consumed = 0;
      for (std::size_t sent = 0; sent < starts.size(); ++sent) {
        while (consumed < ends.size() && ends[consumed] <= starts[sent]) ++consumed;
        channel.receive_buffers = std::max(channel.receive_buffers, static_cast<int>(sent + 1 - consumed));
      }
      result_.ranks[channel.to].receive_bytes += channel.receive_buffers * largest_message(channel);
    }
  }

  std::int64_t largest_message(const ChannelResult& channel) const {
    std::int64_t largest = 0;
    for (const Direction& direction : placement_.directions()) {
      for (int stage = 0; stage < last_stage_; ++stage) {
        const std::int32_t rank = direction.rank_of_stage[stage];
        const std::int32_t next = direction.rank_of_stage[stage + 1];
        const bool carries =
            (rank == channel.from && next == channel.to) || (next == channel.from && rank == channel.to);
        if (carries) largest = std::max(largest, costs_.stage(stage).output_bytes);
      }
    }
    return largest;
  }

  /// From the action that ends last back to one that starts at 0, each time to what made it start no earlier.
  void trace_critical_path() {
    int rank = -1;
    for (int r = 0; r < schedule_.num_ranks(); ++r) {
      if (!result_.end[r].empty() && result_.end[r].back() == result_.makespan) rank = r;
    }
    if (rank < 0) return;
    std::size_t step = result_.end[rank].size() - 1;
    while (true) {
      const Time start = result_.start[rank][step];
      const Time end = result_.end[rank][step];
      result_.critical_path.push_back({rank, static_cast<std::int32_t>(step), start, end, false});
      result_.ranks[rank].critical += end - start;
      if (step > 0 && result_.end[rank][step - 1] == start) {
        --step;
      } else if (start == 0) {
        break;
      } else {
        follow_message(rank, step);
        result_.critical_path.back().after_transfer = true;
      }
    }
    std::reverse(result_.critical_path.begin(), result_.critical_path.end());
  }

  /// Moves from an action that started when a message arrived to the action that sent it.
  void follow_message(int& rank, std::size_t& step) {
    const Time start = result_.start[rank][step];
    for (const Pass& pass : schedule_.actions[rank][step].passes()) {
      const int from = sender(pass, rank);
      if (from < 0 || *input(pass) != start) continue;
      const auto& ends = result_.end[from];
      auto sent =
          static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), start) - ends.begin()) - 1;
      while (!produces_input_of(pass, schedule_.actions[from][sent])) --sent;
      result_.channels[channels_.find(from, rank)].critical += start - ends[sent];
      rank = from;
      step = sent;
      return;
    }
  }

  static bool produces_input_of(const Pass& consumer, const Action& action) {
    const bool is_forward = consumer.kind == PassKind::kForward;
    for (const Pass& pass : action.passes()) {
      if (pass.micro_batch != consumer.micro_batch) continue;
      if (is_forward && pass.kind == PassKind::kForward && pass.stage == consumer.stage - 1) return true;
      if (!is_forward && sends_gradient(pass.kind) && pass.stage == consumer.stage + 1) return true;
    }
    return false;
  }

  const Schedule& schedule_;
  const Placement& placement_;
  const CostModel& costs_;
  const int last_stage_;
  const Channels channels_;
  std::vector<Time> output_arrival_;    // [cell]
  std::vector<Time> gradient_arrival_;  // [cell]
  std::vector<std::size_t> next_step_;  // [rank]
  std::vector<const Time*> waits_for_;  // [rank] what the rank's next action lacks, or null
  std::vector<int> awake_;
  std::vector<Time> link_free_;                   // [channel]
  std::vector<std::vector<Time>> message_start_;  // [channel][in the order of sending]
  std::vector<std::vector<Time>> message_end_;    // [channel][in the order of consumption]
  Simulation result_;
};

void check_passes(const Schedule& schedule) {
  const Placement& placement = schedule.placement;
  if (schedule.actions.size() != static_cast<std::size_t>(placement.num_ranks())) {
    throw InvalidConfig("schedule: expected actions for " + std::to_string(placement.num_ranks()) +
                        " ranks, found " + std::to_string(schedule.actions.size()));
  }
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    for (const Action& action : schedule.actions[rank]) {
      for (const Pass& pass : action.passes()) {
        const bool known = pass.stage >= 0 && pass.stage < placement.num_stages() && pass.micro_batch >= 0 &&
                           pass.micro_batch < placement.num_micro_batches() &&
                           (schedule.passes == Passes::kTraining || pass.kind == PassKind::kForward);
        if (!known || placement.rank_of(pass.stage, pass.micro_batch) != rank) {
          throw InvalidConfig("rank " + std::to_string(rank) + " cannot run " + to_string(pass) +
                              " under the schedule's placement; verify() says why");
        }
      }
    }
  }
}

void check_times(const Schedule& schedule, const CostModel& costs) {
  Time longest = std::max(costs.overlap.value_or(0), costs.p2p);
  for (const StageCost& stage : costs.stages) {
    for (const Time time : {stage.f, stage.i, stage.w, stage.output_bytes}) longest = std::max(longest, time);
  }
  for (const auto& [pair, time] : costs.overlaps) longest = std::max(longest, time);
  if (costs.link) longest = std::max(longest, costs.link->latency);
  for (const auto& [pair, link] : costs.link_of) longest = std::max(longest, link.latency);
  double actions = 1;
  for (const auto& list : schedule.actions) actions += static_cast<double>(list.size());
  constexpr double kMost = 4.6e18;  // 2^62
  if (8.0 * actions * static_cast<double>(longest) > kMost) {
    throw InvalidConfig("costs: times up to " + std::to_string(longest) + " over " +
                        std::to_string(static_cast<std::int64_t>(actions)) +
                        " actions could pass 2^62; use a coarser unit of time");
  }
}

}  // namespace

Simulation simulate(const Schedule& schedule, const CostModel& costs) {
  if (schedule.num_ranks() == 0) return {};
  costs.check(schedule.num_stages(), schedule.num_ranks());
  check_passes(schedule);
  check_times(schedule, costs);
  return Run(schedule, costs).simulate();
}

double Simulation::bubble_ratio() const {
  if (makespan == 0) return 0;
  double idle = 0;
  for (const RankResult& rank : ranks) idle += static_cast<double>(rank.idle);
  return idle / (static_cast<double>(ranks.size()) * static_cast<double>(makespan));
}

int Simulation::peak_activations() const {
  int peak = 0;
  for (const RankResult& rank : ranks) peak = std::max(peak, rank.peak_activations);
  return peak;
}

int Simulation::receive_buffers() const {
  int most = 0;
  for (const ChannelResult& channel : channels) most = std::max(most, channel.receive_buffers);
  return most;
}

}  // namespace counterflow
