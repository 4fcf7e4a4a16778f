// In which order messages arrive and in which they are consumed: how many receive buffers that takes.
#pragma once

#include <cstdint>
#include <vector>

#include "channels.h"
#include "counterflow/program.h"
#include "counterflow/schedule.h"
#include "dataflow.h"

namespace counterflow {

/// Messages arrive in the order in which the sender's actions produce them. An action that consumes the j-th
/// message of a channel (from 0) when i of it have been consumed needs j - i + 1 of them received and not
/// given back, so that many buffers; with as many as the largest such number no schedule deadlocks that does
/// not without transfers: a receive waits for an earlier action of its own rank only.
class ReceiveOrder {
 public:
  /// Where a channel needs more buffers than anywhere before.
  struct Need {
    std::int32_t channel = 0;
    std::int32_t step = 0;  ///< of the receiver
    Message message;
    std::int32_t arrival = 0;   ///< the message's place in the sender's order, from 0
    std::int32_t consumed = 0;  ///< messages of the channel consumed before
    std::int32_t buffers() const { return arrival - consumed + 1; }
  };

  /// The schedule must have all of its passes, each once and on its rank.
  explicit ReceiveOrder(const Schedule& schedule)
      : channels_(schedule.placement, schedule.passes),
        num_micro_batches_(schedule.num_micro_batches()),
        arrivals_(2 * num_micro_batches_ * schedule.num_stages(), 0),
        result_(channels_.size()),
        needs_(channels_.size()) {
    number_messages(schedule);
    consume_messages(schedule);
  }

  /// Every channel with its number of messages and the fewest receive buffers that it needs.
  const std::vector<Channel>& channels() const { return result_; }

  /// Where a channel needs most buffers first.
  const Need& need(int channel) const { return needs_[channel]; }

  /// The place of a message between two ranks in its channel's order, from 0.
  std::int32_t arrival(const Message& message) const { return arrivals_[index(message)]; }

 private:
  std::size_t index(const Message& message) const {
    return 2 * (message.stage * num_micro_batches_ + message.micro_batch) + (message.is_gradient ? 1 : 0);
  }

  void number_messages(const Schedule& schedule) {
    const Placement& placement = schedule.placement;
    for (int c = 0; c < channels_.size(); ++c) result_[c] = {channels_.from(c), channels_.to(c), 0, 0};
    for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
      for (const Action& action : schedule.actions[rank]) {
        for (const Pass& pass : action.passes()) {
          const auto output = output_of(pass, placement.num_stages());
          if (!output) continue;
          const int to = consumer_rank(placement, *output);
          if (to != rank) arrivals_[index(*output)] = result_[channels_.find(rank, to)].messages++;
        }
      }
    }
  }

  void consume_messages(const Schedule& schedule) {
    const Placement& placement = schedule.placement;
    std::vector<std::int32_t> consumed(channels_.size(), 0);
    for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
      for (std::size_t step = 0; step < schedule.actions[rank].size(); ++step) {
        // Both messages of an overlapped pair must be there before either is given back.
        std::int32_t given_back[2];
        int num_given_back = 0;
        for (const Pass& pass : schedule.actions[rank][step].passes()) {
          const auto input = input_of(pass, placement.num_stages());
          if (!input) continue;
          const int from = producer_rank(placement, *input);
          if (from == rank) continue;
          const int c = channels_.find(from, rank);
          const Need need{c, static_cast<std::int32_t>(step), *input, arrival(*input), consumed[c]};
          if (need.buffers() > result_[c].receive_buffers) {
            result_[c].receive_buffers = need.buffers();
            needs_[c] = need;
          }
          given_back[num_given_back++] = c;
        }
        for (int i = 0; i < num_given_back; ++i) ++consumed[given_back[i]];
      }
    }
  }

  const Channels channels_;
  const std::size_t num_micro_batches_;
  std::vector<std::int32_t> arrivals_;  // [stage][micro-batch][output, gradient]
  std::vector<Channel> result_;
  std::vector<Need> needs_;
};

}  // namespace counterflow
