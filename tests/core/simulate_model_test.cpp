// simulate() beside a slow, obvious model of the same words: start times raised until nothing changes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>

#include "counterflow/generate.h"
#include "counterflow/simulate.h"

namespace counterflow {
namespace {

using Key = std::tuple<bool, int, int>;  // is a gradient, stage that produces it, micro-batch

struct Sent {
  int from, to;
  std::size_t step;  // of the sender
  int sized_as;      // the stage whose output is as large
  Time start = 0;
  Time arrival = 0;
};

/// Everything about a run, from start times that are raised until they respect every rule.
struct Model {
  const Schedule& schedule;
  const CostModel& costs;
  std::vector<std::vector<Time>> start;
  std::map<Key, Sent> messages;
  std::map<std::pair<int, int>, std::vector<Key>> sent_order;

  Model(const Schedule& s, const CostModel& c) : schedule(s), costs(c) {
    const int last = s.num_stages() - 1;
    for (int rank = 0; rank < s.num_ranks(); ++rank) {
      start.emplace_back(s.actions[rank].size(), 0);
      for (std::size_t step = 0; step < s.actions[rank].size(); ++step) {
        for (const Pass& pass : s.actions[rank][step].passes()) {
          const bool is_forward = pass.kind == PassKind::kForward;
          if (pass.kind == PassKind::kWeightGradient || (is_forward ? pass.stage == last : pass.stage == 0))
            continue;
          const int to = s.placement.rank_of(is_forward ? pass.stage + 1 : pass.stage - 1, pass.micro_batch);
          const Key key{!is_forward, pass.stage, pass.micro_batch};
          messages[key] = {rank, to, step, is_forward ? pass.stage : pass.stage - 1};
          if (to != rank) sent_order[{rank, to}].push_back(key);
        }
      }
    }
    while (raise()) {
    }
  }

  Time end(int rank, std::size_t step) const {
    return start[rank][step] + costs.duration(schedule.actions[rank][step]);
  }

  const Sent* input(const Pass& pass) const {
    const bool is_forward = pass.kind == PassKind::kForward;
    if (pass.kind == PassKind::kWeightGradient ||
        (is_forward ? pass.stage == 0 : pass.stage + 1 == schedule.num_stages())) {
      return nullptr;
    }
    return &messages.at({!is_forward, is_forward ? pass.stage - 1 : pass.stage + 1, pass.micro_batch});
  }

  bool raise() {
    for (auto& [key, sent] : messages) sent.arrival = sent.start = end(sent.from, sent.step);
    for (const auto& [ranks, keys] : sent_order) {
      Time link_free = 0;
      for (const Key& key : keys) {
        Sent& sent = messages[key];
        if (costs.has_links()) sent.start = std::max(sent.start, link_free);
        link_free = sent.arrival =
            sent.start + costs.transfer(sent.from, sent.to, costs.stage(sent.sized_as).output_bytes);
      }
    }
    bool raised = false;
    for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
      for (std::size_t step = 0; step < start[rank].size(); ++step) {
        Time earliest = step == 0 ? 0 : end(rank, step - 1);
        for (const Pass& pass : schedule.actions[rank][step].passes()) {
          if (const Sent* sent = input(pass)) earliest = std::max(earliest, sent->arrival);
        }
        raised = raised || earliest > start[rank][step];
        start[rank][step] = earliest;
      }
    }
    return raised;
  }

  /// The most messages of a channel between the start of their transfer and the end of what consumes them.
  int receive_buffers(int from, int to) const {
    std::vector<std::pair<Time, Time>> held;
    for (std::size_t step = 0; step < start[to].size(); ++step) {
      for (const Pass& pass : schedule.actions[to][step].passes()) {
        const Sent* sent = input(pass);
        if (sent != nullptr && sent->from == from && sent->to == to)
          held.emplace_back(sent->start, end(to, step));
      }
    }
    int most = 0;
    for (const auto& [at, unused] : held) {
      most =
          std::max(most, static_cast<int>(std::count_if(held.begin(), held.end(), [at = at](const auto& one) {
                     return one.first <= at && at < one.second;
                   })));
    }
    return most;
  }

  /// Bytes of activations at every start and end, from nothing but the timeline.
  std::int64_t peak_bytes(int rank) const {
    std::int64_t most = 0;
    const auto& actions = schedule.actions[rank];
    for (std::size_t at = 0; at < actions.size(); ++at) {
      std::int64_t held = 0;  // while action `at` runs
      std::int64_t after = 0;
      for (std::size_t step = 0; step <= at; ++step) {
        for (const Pass& pass : actions[step].passes()) {
          const StageCost& cost = costs.stage(pass.stage);
          std::int64_t change = cost.activation_bytes;
          if (pass.kind == PassKind::kBackward) change = -cost.activation_bytes;
          if (pass.kind == PassKind::kInputGradient) change = cost.weight_store_bytes - cost.activation_bytes;
          if (pass.kind == PassKind::kWeightGradient) change = -cost.weight_store_bytes;
          after += change;
          if (step < at || pass.kind == PassKind::kForward) held += change;
        }
      }
      most = std::max({most, held, after});
    }
    return most;
  }
};

CostModel random_costs(const Schedule& schedule, std::mt19937& random) {
  const auto below = [&](int n) { return static_cast<Time>(random() % n); };
  CostModel costs;
  costs.stages.resize(below(2) == 0 ? 1 : schedule.num_stages());
  for (StageCost& stage : costs.stages) {
    stage = {below(20), below(20), below(20), below(50), below(30), below(40), below(9), below(9), below(9)};
  }
  if (below(2) == 0) costs.overlap = below(50);
  if (below(2) == 0) {
    for (int n = 0; n < 5; ++n) {
      costs.overlaps[{static_cast<int>(below(schedule.num_stages())),
                      static_cast<int>(below(schedule.num_stages()))}] = below(50);
    }
  }
  switch (below(3)) {
    case 0:
      costs.p2p = below(10);
      break;
    case 1:
      costs.link = Link{below(5), below(8)};
      break;
    default:
      costs.link = Link{below(5), 1 + below(8)};
      costs.link_of[{0, static_cast<int>(below(schedule.num_ranks()))}] = Link{below(30), below(3)};
  }
  return costs;
}

void expect_a_critical_path(const Simulation& run) {
  ASSERT_FALSE(run.critical_path.empty());
  EXPECT_EQ(run.critical_path.back().end, run.makespan);
  EXPECT_EQ(run.critical_path.front().start, 0);
  for (std::size_t i = 1; i < run.critical_path.size(); ++i) {
    const CriticalStep& before = run.critical_path[i - 1];
    const CriticalStep& step = run.critical_path[i];
    EXPECT_EQ(run.start[step.rank][step.step], step.start);
    if (step.after_transfer) {
      EXPECT_NE(step.rank, before.rank);
      EXPECT_LE(before.end, step.start);
    } else {
      EXPECT_EQ(step.rank, before.rank);
      EXPECT_EQ(step.step, before.step + 1);
      EXPECT_EQ(before.end, step.start);
    }
  }
  Time total = 0;
  for (const RankResult& rank : run.ranks) total += rank.critical;
  for (const ChannelResult& channel : run.channels) total += channel.critical;
  EXPECT_EQ(total, run.makespan);
}

TEST(SimulateTest, AgreesWithTheModelUnderRandomCosts) {
  std::mt19937 random(20240611);
  int compared = 0;
  for (const Generator* generator : all_generators()) {
    for (const Size size : {Size{2, 4}, Size{3, 6}, Size{4, 8}, Size{4, 11}, Size{1, 2}}) {
      Size full = size;
      full.stages_per_rank = generator->stages_per_rank;
      if (!generator->fits(full)) continue;
      const Schedule schedule = generate(*generator, size);
      for (int n = 0; n < 10; ++n) {
        const CostModel costs = random_costs(schedule, random);
        SCOPED_TRACE(std::string(generator->name) + " " + std::to_string(size.ranks) + "x" +
                     std::to_string(size.micro_batches) + " " + format_cost_model(costs));
        const Simulation run = simulate(schedule, costs);
        const Model model(schedule, costs);
        ASSERT_EQ(run.start, model.start);
        expect_a_critical_path(run);
        for (const ChannelResult& channel : run.channels) {
          EXPECT_EQ(channel.receive_buffers, model.receive_buffers(channel.from, channel.to));
        }
        for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
          EXPECT_EQ(run.ranks[rank].peak_activation_bytes, model.peak_bytes(rank));
        }
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 400);
}

}  // namespace
}  // namespace counterflow
