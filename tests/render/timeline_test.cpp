#include "counterflow/timeline.h"

#include <gtest/gtest.h>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "support/timelines.h"

namespace counterflow {
namespace {

CostModel plain_costs() {
  return UniformCost{.f = 2, .i = 3, .w = 1, .fb = 5};
}

CostModel costs_with_p2p() {
  CostModel costs(UniformCost{.f = 5, .i = 6, .w = 4, .fb = {}}, 3);
  costs.stages[0].activation_bytes = 100;
  costs.stages[0].weight_store_bytes = 130;
  return costs;
}

CostModel costs_with_links() {
  CostModel costs(UniformCost{.f = 5, .i = 6, .w = 4, .fb = {}});
  costs.stages[0].output_bytes = 70;
  costs.stages[0].activation_bytes = 100;
  costs.stages[0].weight_store_bytes = 30;
  costs.link = Link{.latency = 1, .bytes_per_time = 9};
  return costs;
}

/// Calls check(schedule, costs, simulation, timeline) for every generator at several sizes and costs.
template <typename Check>
void for_each_timeline(Check&& check) {
  for (const Generator* generator : all_generators()) {
    const std::vector<Size> sizes = testing::sizes_to_draw(*generator);
    ASSERT_GE(sizes.size(), 4U) << generator->name;
    for (const Size& size : sizes) {
      for (const CostModel& costs : {plain_costs(), costs_with_p2p(), costs_with_links()}) {
        SCOPED_TRACE(std::string(generator->name) + " " + std::to_string(size.ranks) + "x" +
                     std::to_string(size.micro_batches));
        const Schedule schedule = generate(*generator, size);
        const Simulation simulation = simulate(schedule, costs);
        check(schedule, costs, simulation, make_timeline(schedule, costs, simulation));
      }
    }
  }
}

TEST(TimelineTest, HasEachActionOnceAtTheSimulatorsTime) {
  for_each_timeline(
      [](const Schedule& schedule, const CostModel&, const Simulation& simulation, const Timeline& timeline) {
        ASSERT_EQ(timeline.ranks.size(), schedule.actions.size());
        EXPECT_EQ(timeline.end(), simulation.makespan);
        for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
          const std::vector<Bar>& bars = timeline.ranks[rank].bars;
          ASSERT_EQ(bars.size(), schedule.actions[rank].size());
          for (std::size_t step = 0; step < bars.size(); ++step) {
            EXPECT_EQ(bars[step], (Bar{schedule.actions[rank][step], simulation.start[rank][step],
                                       simulation.end[rank][step]}));
          }
        }
      });
}

TEST(TimelineTest, SummaryIsTheSimulators) {
  for_each_timeline(
      [](const Schedule&, const CostModel&, const Simulation& simulation, const Timeline& timeline) {
        const std::vector<RankSummary> summaries = summarize(timeline);
        ASSERT_EQ(summaries.size(), simulation.ranks.size());
        for (std::size_t rank = 0; rank < summaries.size(); ++rank) {
          EXPECT_EQ(summaries[rank].busy, simulation.ranks[rank].busy);
          EXPECT_EQ(summaries[rank].idle, simulation.ranks[rank].idle);
          EXPECT_EQ(summaries[rank].span_idle, simulation.ranks[rank].span_idle);
          EXPECT_EQ(summaries[rank].peak_activations, simulation.ranks[rank].peak_activations);
          EXPECT_EQ(summaries[rank].peak_bytes, simulation.ranks[rank].peak_activation_bytes);
        }
        EXPECT_DOUBLE_EQ(bubble_ratio(timeline), simulation.bubble_ratio());
      });
}

TEST(TimelineTest, ActivationsRiseAndFallToNothing) {
  for_each_timeline([](const Schedule&, const CostModel&, const Simulation&, const Timeline& timeline) {
    for (const RankTimeline& rank : timeline.ranks) {
      Time before = 0;
      for (const ActivationSample& sample : rank.activations) {
        EXPECT_GE(sample.time, before);
        EXPECT_GE(sample.count, 0);
        EXPECT_GE(sample.bytes, 0);
        before = sample.time;
      }
      ASSERT_FALSE(rank.activations.empty());
      EXPECT_EQ(rank.activations.back().count, 0);
      EXPECT_EQ(rank.activations.back().bytes, 0);
    }
  });
}

bool has_pass(const Bar& bar, const Pass& wanted) {
  for (const Pass& pass : bar.action.passes()) {
    if (pass == wanted) return true;
  }
  return false;
}

/// Whether a bar runs the pass that needs what a transfer carries.
bool consumes(const Bar& bar, const Pass& sent) {
  if (sent.kind == PassKind::kForward) return has_pass(bar, forward(sent.stage + 1, sent.micro_batch));
  return has_pass(bar, backward(sent.stage - 1, sent.micro_batch)) ||
         has_pass(bar, input_gradient(sent.stage - 1, sent.micro_batch));
}

TEST(TimelineTest, TransfersJoinWhatSendsToWhatNeedsIt) {
  for_each_timeline(
      [](const Schedule&, const CostModel&, const Simulation& simulation, const Timeline& timeline) {
        ASSERT_EQ(timeline.links.size(), simulation.channels.size());
        for (std::size_t c = 0; c < timeline.links.size(); ++c) {
          const LinkTimeline& link = timeline.links[c];
          const ChannelResult& channel = simulation.channels[c];
          EXPECT_EQ(link.from, channel.from);
          EXPECT_EQ(link.to, channel.to);
          EXPECT_EQ(static_cast<std::int64_t>(link.transfers.size()), channel.messages);
          Time busy = 0;
          for (const Transfer& transfer : link.transfers) {
            const Bar& sender = timeline.ranks[link.from].bars.at(transfer.sender);
            const Bar& receiver = timeline.ranks[link.to].bars.at(transfer.receiver);
            EXPECT_TRUE(has_pass(sender, transfer.pass)) << transfer.pass;
            EXPECT_TRUE(consumes(receiver, transfer.pass)) << transfer.pass;
            EXPECT_GE(transfer.begin, sender.end);
            EXPECT_LE(transfer.end, receiver.begin);
            busy += transfer.end - transfer.begin;
          }
          EXPECT_EQ(busy, channel.busy);
        }
      });
}

// Every action starts the moment the last thing it waits for is there, so the transfers' times are the
// simulator's, queueing for a link included.
TEST(TimelineTest, ActionsStartWhenTheirRankAndTheirMessagesAreThere) {
  for_each_timeline(
      [](const Schedule& schedule, const CostModel&, const Simulation&, const Timeline& timeline) {
        std::vector<std::vector<Time>> ready(timeline.ranks.size());
        for (std::size_t rank = 0; rank < ready.size(); ++rank) {
          const std::vector<Bar>& bars = timeline.ranks[rank].bars;
          for (std::size_t bar = 0; bar < bars.size(); ++bar)
            ready[rank].push_back(bar == 0 ? 0 : bars[bar - 1].end);
        }
        for (const LinkTimeline& link : timeline.links) {
          for (const Transfer& transfer : link.transfers) {
            Time& time = ready[link.to][transfer.receiver];
            time = std::max(time, transfer.end);
          }
        }
        for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
          for (std::size_t bar = 0; bar < ready[rank].size(); ++bar)
            EXPECT_EQ(timeline.ranks[rank].bars[bar].begin, ready[rank][bar]);
        }
      });
}

TEST(TimelineTest, CriticalPathIsTheSimulators) {
  const Schedule schedule = generate("dualpipe", {8, 20});
  const Simulation simulation = simulate(schedule, UniformCost{});
  const Timeline timeline = make_timeline(schedule, UniformCost{}, simulation);
  ASSERT_EQ(timeline.critical_path.size(), simulation.critical_path.size());
  Time length = 0;
  for (const BarId& id : timeline.critical_path) length += timeline.ranks[id.rank].bars[id.bar].duration();
  EXPECT_EQ(length, 66);
}

TEST(TimelineTest, ForwardOnlyHoldsOneActivationAtATime) {
  const Schedule schedule = forward_only(generate("dualpipe", {4, 8}));
  const Simulation simulation = simulate(schedule, UniformCost{});
  const Timeline timeline = make_timeline(schedule, UniformCost{}, simulation);
  for (const RankSummary& rank : summarize(timeline)) EXPECT_EQ(rank.peak_activations, 1);
}

TEST(TimelineTest, RefusesTheSimulationOfAnotherSchedule) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  const Simulation other = simulate(generate("dualpipe", {4, 10}), UniformCost{});
  EXPECT_THROW(make_timeline(schedule, UniformCost{}, other), InvalidConfig);
}

TEST(TimelineTest, EmptyScheduleHasAnEmptyTimeline) {
  const Timeline timeline = make_timeline({}, UniformCost{}, Simulation{});
  EXPECT_EQ(timeline.end(), 0);
  EXPECT_EQ(bubble_ratio(timeline), 0);
  EXPECT_TRUE(summarize(timeline).empty());
}

}  // namespace
}  // namespace counterflow
