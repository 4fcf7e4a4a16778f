#include "counterflow/simulate.h"

#include <algorithm>
#include <string>

#include "channels.h"
#include "counterflow/error.h"
#include "dataflow.h"

namespace counterflow {
namespace {

/// One run of a schedule. A (stage, micro-batch) pair is a cell of both tables: when the output of its
/// forward arrives at the next stage, and when its gradient arrives at the stage before.
class Run {
 public:
  Run(const Schedule& schedule, const CostModel& costs)
      : schedule_(schedule),
        placement_(schedule.placement),
        costs_(costs),
        num_stages_(schedule.num_stages()),
        channels_(schedule.placement, schedule.passes),
        output_arrival_(num_cells(), 0),
        gradient_arrival_(schedule.passes == Passes::kTraining ? num_cells() : 0, 0),
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
    const auto finished = walk(schedule_, [this](int rank, std::size_t step) { run(rank, step); });
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      if (finished[rank] == schedule_.actions[rank].size()) continue;
      throw InvalidConfig("rank " + std::to_string(rank) + " never gets to run " +
                          to_string(schedule_.actions[rank][finished[rank]]) +
                          ": its inputs do not come; verify() says why");
    }
    measure_ranks();
    measure_channels();
    trace_critical_path();
    return std::move(result_);
  }

 private:
  std::size_t num_cells() const {
    return static_cast<std::size_t>(placement_.num_stages()) * placement_.num_micro_batches();
  }

  Time& arrival(const Message& message) {
    const std::size_t cell =
        static_cast<std::size_t>(message.stage) * placement_.num_micro_batches() + message.micro_batch;
    return message.is_gradient ? gradient_arrival_[cell] : output_arrival_[cell];
  }

  /// Runs one action, whose inputs have been produced.
  void run(int rank, std::size_t step) {
    const Action& action = schedule_.actions[rank][step];
    std::vector<Time>& ends = result_.end[rank];
    Time start = ends.empty() ? 0 : ends.back();
    for (const Pass& pass : action.passes()) {
      if (const auto input = input_of(pass, num_stages_)) start = std::max(start, arrival(*input));
    }
    const Time end = start + costs_.duration(action);
    result_.start[rank].push_back(start);
    ends.push_back(end);
    for (const Pass& pass : action.passes()) {
      if (const auto input = input_of(pass, num_stages_)) {
        const int from = producer_rank(placement_, *input);
        if (from != rank) message_end_[channels_.find(from, rank)].push_back(end);
      }
      if (const auto output = output_of(pass, num_stages_)) send(*output, rank, end);
    }
  }

  void send(const Message& message, int rank, Time end) {
    const int to = consumer_rank(placement_, message);
    if (to == rank) {
      arrival(message) = end;
      return;
    }
    const int channel = channels_.find(rank, to);
    // A gradient is as large as the output that it is the gradient of: that of the stage before.
    const std::int64_t bytes =
        costs_.stage(message.is_gradient ? message.stage - 1 : message.stage).output_bytes;
    const Time transfer = costs_.transfer(rank, to, bytes);
    const Time start = costs_.has_links() ? std::max(end, link_free_[channel]) : end;
    arrival(message) = link_free_[channel] = start + transfer;
    result_.channels[channel].busy += transfer;
    ++result_.channels[channel].messages;
    message_start_[channel].push_back(start);
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
      for (int stage = 0; stage + 1 < num_stages_; ++stage) {
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
      } else if (start > 0 && follow_message(rank, step)) {
        result_.critical_path.back().after_transfer = true;
      } else {
        break;
      }
    }
    std::reverse(result_.critical_path.begin(), result_.critical_path.end());
  }

  /// Moves from an action that started when a message arrived to the action that sent it.
  bool follow_message(int& rank, std::size_t& step) {
    const Time start = result_.start[rank][step];
    for (const Pass& pass : schedule_.actions[rank][step].passes()) {
      const auto input = input_of(pass, num_stages_);
      if (!input || arrival(*input) != start) continue;
      const int from = producer_rank(placement_, *input);
      if (from == rank) continue;
      const auto& ends = result_.end[from];
      auto sent =
          static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), start) - ends.begin()) - 1;
      while (!produces(schedule_.actions[from][sent], *input)) --sent;
      result_.channels[channels_.find(from, rank)].critical += start - ends[sent];
      rank = from;
      step = sent;
      return true;
    }
    return false;
  }

  bool produces(const Action& action, const Message& message) const {
    const auto passes = action.passes();
    return std::any_of(passes.begin(), passes.end(),
                       [&](const Pass& pass) { return output_of(pass, num_stages_) == message; });
  }

  const Schedule& schedule_;
  const Placement& placement_;
  const CostModel& costs_;
  const int num_stages_;
  const Channels channels_;
  std::vector<Time> output_arrival_;              // [cell]
  std::vector<Time> gradient_arrival_;            // [cell]
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

/// The bytes of a rank: an activation, a store and a message at most for each of its passes, and its stages.
void check_bytes(const Schedule& schedule, const CostModel& costs) {
  double of_pass = 0;
  double of_stage = 0;
  for (const StageCost& stage : costs.stages) {
    of_pass = std::max(of_pass, static_cast<double>(stage.activation_bytes) +
                                    static_cast<double>(stage.weight_store_bytes) +
                                    static_cast<double>(stage.output_bytes));
    of_stage = std::max(of_stage, static_cast<double>(stage.parameter_bytes) +
                                      static_cast<double>(stage.gradient_bytes) +
                                      static_cast<double>(stage.optimizer_bytes));
  }
  std::size_t actions = 0;
  for (const auto& list : schedule.actions) actions = std::max(actions, list.size());
  const double passes = 2.0 * static_cast<double>(actions);
  const double stages = 1.0 * schedule.num_stages() * schedule.placement.num_directions();
  constexpr double kMost = 4.6e18;  // 2^62
  if (passes * of_pass + stages * of_stage > kMost) {
    throw InvalidConfig("costs: bytes so large that those of a rank could pass 2^62; use a larger unit");
  }
}

}  // namespace

Simulation simulate(const Schedule& schedule, const CostModel& costs) {
  if (schedule.num_ranks() == 0) return {};
  costs.check(schedule.num_stages(), schedule.num_ranks());
  check_passes(schedule);
  check_times(schedule, costs);
  check_bytes(schedule, costs);
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
