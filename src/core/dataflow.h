// What a pass needs before it can run, and a walk over a schedule that respects it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "counterflow/schedule.h"

namespace counterflow {

/// What travels between stages: the output of a stage's forward, to the next stage, or the gradient that its
/// B or I produces, to the stage before. Named by the stage that produces it.
struct Message {
  std::int32_t stage = 0;
  std::int32_t micro_batch = 0;
  bool is_gradient = false;

  friend bool operator==(const Message&, const Message&) = default;
};

/// What a pass needs from another stage; nothing for the first stage's F, the last stage's B and I (whose own
/// F is enough) and every W.
inline std::optional<Message> input_of(const Pass& pass, int num_stages) {
  if (pass.kind == PassKind::kForward && pass.stage > 0)
    return Message{pass.stage - 1, pass.micro_batch, false};
  if (sends_gradient(pass.kind) && pass.stage + 1 < num_stages)
    return Message{pass.stage + 1, pass.micro_batch, true};
  return std::nullopt;
}

/// What a pass produces for another stage; nothing for the last stage's F, the first stage's B and I, and
/// every W.
inline std::optional<Message> output_of(const Pass& pass, int num_stages) {
  if (pass.kind == PassKind::kForward && pass.stage + 1 < num_stages)
    return Message{pass.stage, pass.micro_batch, false};
  if (sends_gradient(pass.kind) && pass.stage > 0) return Message{pass.stage, pass.micro_batch, true};
  return std::nullopt;
}

inline int producer_rank(const Placement& placement, const Message& message) {
  return placement.rank_of(message.stage, message.micro_batch);
}

inline int consumer_rank(const Placement& placement, const Message& message) {
  return placement.rank_of(message.is_gradient ? message.stage - 1 : message.stage + 1, message.micro_batch);
}

/// Runs every rank's list in order, each action when its inputs are there, calling on_action(rank, step).
/// Ranks advance one at a time, each as far as it can; what it produces wakes the one rank that may wait for
/// it, so the cost is linear in the number of passes. Returns how many actions of each rank ran: fewer than
/// all where the schedule deadlocks. Every pass must be within the placement and on its rank; actions on one
/// rank must respect F before B or I before W of the same stage and micro-batch.
template <typename OnAction>
std::vector<std::size_t> walk(const Schedule& schedule, OnAction&& on_action) {
  const Placement& placement = schedule.placement;
  const int num_stages = placement.num_stages();
  const std::size_t num_micro_batches = placement.num_micro_batches();
  static constexpr std::uint8_t kOutput = 1;
  static constexpr std::uint8_t kGradient = 2;
  std::vector<std::uint8_t> produced(num_stages * num_micro_batches, 0);  // [stage][micro-batch]
  std::vector<std::size_t> next(placement.num_ranks(), 0);
  std::vector<std::optional<Message>> waits_for(placement.num_ranks());
  std::vector<int> awake;

  const auto cell = [&](const Message& message) {
    return message.stage * num_micro_batches + message.micro_batch;
  };
  const auto bit = [](const Message& message) { return message.is_gradient ? kGradient : kOutput; };

  const auto missing_input = [&](const Action& action) -> std::optional<Message> {
    for (const Pass& pass : action.passes()) {
      const std::optional<Message> input = input_of(pass, num_stages);
      if (input && (produced[cell(*input)] & bit(*input)) == 0) return input;
    }
    return std::nullopt;
  };

  const auto advance = [&](int rank) {
    const std::vector<Action>& actions = schedule.actions[rank];
    for (std::size_t& step = next[rank]; step < actions.size(); ++step) {
      waits_for[rank] = missing_input(actions[step]);
      if (waits_for[rank]) return;
      on_action(rank, step);
      for (const Pass& pass : actions[step].passes()) {
        const std::optional<Message> output = output_of(pass, num_stages);
        if (!output) continue;
        produced[cell(*output)] |= bit(*output);
        const int consumer = consumer_rank(placement, *output);
        if (consumer != rank && waits_for[consumer] == output) awake.push_back(consumer);
      }
    }
  };

  for (int rank = 0; rank < placement.num_ranks(); ++rank) {
    awake.push_back(rank);
    while (!awake.empty()) {
      const int one = awake.back();
      awake.pop_back();
      advance(one);
    }
  }
  return next;
}

}  // namespace counterflow
