#include "counterflow/verify.h"

#include <algorithm>
#include <array>
#include <string>

#include "counterflow/error.h"
#include "dataflow.h"
#include "deadlock.h"
#include "diagnostics.h"
#include "receive_order.h"

namespace counterflow {
namespace {

std::string on_rank(int rank) {
  return "rank " + std::to_string(rank);
}

/// One judgement of a schedule, rule by rule. Later rules assume that the earlier ones hold.
class Verifier {
 public:
  Verifier(const Schedule& schedule, const VerifyOptions& options)
      : schedule_(schedule),
        placement_(schedule.placement),
        options_(options),
        found_(options.max_diagnostics),
        late_(options.max_diagnostics),
        seen_(static_cast<std::size_t>(placement_.num_stages()) * placement_.num_micro_batches(), 0) {}

  Verdict verify() {
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) check_actions(rank);
    check_all_work_is_done();
    if (!found_.any()) check_order();
    if (!found_.any()) check_receive_buffers();
    check_activations();
    return found_.take();
  }

 private:
  static std::uint8_t bit(PassKind kind) {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(kind));
  }
  static constexpr std::uint8_t kF = 1;
  static constexpr std::uint8_t kB = 2;
  static constexpr std::uint8_t kI = 4;
  static constexpr std::uint8_t kW = 8;
  static constexpr std::uint8_t kBeforeF = 16;  // its B or I comes before its F
  static constexpr std::uint8_t kBeforeI = 32;  // its W comes before its I

  std::uint8_t& seen(const Pass& pass) {
    return seen_[static_cast<std::size_t>(pass.stage) * placement_.num_micro_batches() + pass.micro_batch];
  }

  void report(Rule rule, int rank, std::size_t step, const Action& action, const std::string& message) {
    found_.add(rule, [&] {
      return Diagnostic{rule, rank, static_cast<std::int32_t>(step), action, message};
    });
  }

  void check_actions(int rank) {
    const std::vector<Action>& actions = schedule_.actions[rank];
    for (std::size_t step = 0; step < actions.size(); ++step) {
      const Action& action = actions[step];
      check_overlap(rank, step, action);
      for (const Pass& pass : action.passes()) {
        if (!is_known(pass)) {
          report_unknown(rank, step, action, pass);
        } else {
          check_pass(rank, step, action, pass);
          seen(pass) |= bit(pass.kind);
        }
      }
    }
  }

  bool is_known(const Pass& pass) const {
    return pass.stage >= 0 && pass.stage < placement_.num_stages() && pass.micro_batch >= 0 &&
           pass.micro_batch < placement_.num_micro_batches() &&
           (schedule_.passes == Passes::kTraining || pass.kind == PassKind::kForward);
  }

  void report_unknown(int rank, std::size_t step, const Action& action, const Pass& pass) {
    std::string expected = "stages 0 to " + std::to_string(placement_.num_stages() - 1) +
                           " and micro-batches 0 to " + std::to_string(placement_.num_micro_batches() - 1);
    if (schedule_.passes == Passes::kForward) expected += ", forwards only";
    report(Rule::kUnknownAction, rank, step, action,
           to_string(pass) + " is not of this schedule: expected " + expected);
  }

  void check_overlap(int rank, std::size_t step, const Action& action) {
    if (!action.is_overlap()) return;
    const auto passes = action.passes();
    if (passes[0].kind != PassKind::kForward || passes[1].kind != PassKind::kBackward) {
      report(Rule::kUnknownAction, rank, step, action,
             "an overlapped pair is an F and a B, found " + to_string(action));
    } else if (passes[0].micro_batch == passes[1].micro_batch) {
      // Every backward of a micro-batch needs all of its forwards, through the last stage.
      report(Rule::kOverlapDependsOnItself, rank, step, action,
             to_string(action) +
                 " overlaps a forward with a backward that needs it: both are of micro-batch " +
                 std::to_string(passes[0].micro_batch));
    }
  }

  void check_pass(int rank, std::size_t step, const Action& action, const Pass& pass) {
    const std::uint8_t before = seen(pass);
    const int owner = placement_.rank_of(pass.stage, pass.micro_batch);
    if (owner != rank) {
      report(Rule::kWrongRank, rank, step, action,
             to_string(pass) + " belongs on " + on_rank(owner) + ", found on " + on_rank(rank));
    }
    if ((before & bit(pass.kind)) != 0) {
      report(Rule::kDuplicateAction, rank, step, action, to_string(pass) + " runs a second time");
    }
    const bool is_full = pass.kind == PassKind::kBackward;
    const bool is_split = pass.kind == PassKind::kInputGradient || pass.kind == PassKind::kWeightGradient;
    if ((is_full && (before & (kI | kW)) != 0) || (is_split && (before & kB) != 0)) {
      report(Rule::kMixedBackward, rank, step, action,
             "expected either " + to_string(backward(pass.stage, pass.micro_batch)) + " or " +
                 to_string(input_gradient(pass.stage, pass.micro_batch)) + " and " +
                 to_string(weight_gradient(pass.stage, pass.micro_batch)) + ", found both");
    }
    if (sends_gradient(pass.kind) && (before & kF) == 0) {
      seen(pass) |= kBeforeF;
      late_.add(Rule::kBackwardBeforeForward, [&] {
        return Diagnostic{
            Rule::kBackwardBeforeForward, rank, static_cast<std::int32_t>(step), action,
            to_string(pass) + " comes before " + to_string(forward(pass.stage, pass.micro_batch))};
      });
    }
    if (pass.kind == PassKind::kWeightGradient && (before & kI) == 0) {
      seen(pass) |= kBeforeI;
      late_.add(Rule::kWeightBeforeInput, [&] {
        return Diagnostic{
            Rule::kWeightBeforeInput, rank, static_cast<std::int32_t>(step), action,
            to_string(pass) + " comes before " + to_string(input_gradient(pass.stage, pass.micro_batch))};
      });
    }
  }

  void check_all_work_is_done() {
    std::int64_t num_late = 0;
    for (int stage = 0; stage < placement_.num_stages(); ++stage) {
      for (int micro_batch = 0; micro_batch < placement_.num_micro_batches(); ++micro_batch) {
        const std::uint8_t done = seen(forward(stage, micro_batch));
        if ((done & kF) == 0) report_missing(forward(stage, micro_batch), "");
        num_late += (done & kF) != 0 && (done & kBeforeF) != 0 ? 1 : 0;
        num_late += (done & kI) != 0 && (done & kBeforeI) != 0 ? 1 : 0;
        if (schedule_.passes == Passes::kForward || (done & kB) != 0) continue;
        if ((done & (kI | kW)) == 0) {
          report_missing(backward(stage, micro_batch),
                         " (and neither " + to_string(input_gradient(stage, micro_batch)) + " nor " +
                             to_string(weight_gradient(stage, micro_batch)) + ")");
        } else if ((done & kI) == 0) {
          report_missing(input_gradient(stage, micro_batch), "");
        } else if ((done & kW) == 0) {
          report_missing(weight_gradient(stage, micro_batch), "");
        }
      }
    }
    // A pass that comes before one that never comes has been reported as missing already.
    for (Diagnostic& late : late_.take().diagnostics) {
      const std::uint8_t needed = late.rule == Rule::kBackwardBeforeForward ? kF : kI;
      bool exists = false;
      for (const Pass& pass : late.action->passes())
        exists = exists || (is_known(pass) && (seen(pass) & needed) != 0);
      if (!exists) continue;
      found_.add(late.rule, [&] { return std::move(late); });
      --num_late;
    }
    found_.count(std::max<std::int64_t>(num_late, 0));
  }

  void report_missing(const Pass& pass, const std::string& note) {
    found_.add(Rule::kMissingAction, [&] {
      const int rank = placement_.rank_of(pass.stage, pass.micro_batch);
      return Diagnostic{Rule::kMissingAction, rank, -1, Action(pass),
                        to_string(pass) + " never runs" + note + ": expected on " + on_rank(rank)};
    });
  }

  void check_order() {
    const std::vector<std::size_t> finished = walk(schedule_, [](int, std::size_t) {});
    const std::vector<Wait> cycle = shortest_cycle(schedule_, finished);
    if (cycle.empty()) return;
    const Wait& first = cycle.front();
    report(Rule::kDeadlock, first.rank, first.step, schedule_.actions[first.rank][first.step],
           describe(schedule_, cycle));
  }

  void check_receive_buffers() {
    if (!options_.receive_buffers) return;
    const ReceiveOrder order(schedule_);
    for (std::size_t c = 0; c < order.channels().size(); ++c) {
      const Channel& channel = order.channels()[c];
      if (channel.receive_buffers <= *options_.receive_buffers) continue;
      const ReceiveOrder::Need& need = order.need(static_cast<int>(c));
      report(Rule::kReceiveBuffers, channel.to, need.step, schedule_.actions[channel.to][need.step],
             on_rank(channel.to) + " needs " + std::to_string(channel.receive_buffers) +
                 " receive buffers for messages from " + on_rank(channel.from) + ", found " +
                 std::to_string(*options_.receive_buffers) + ": it consumes message " +
                 std::to_string(need.arrival) + " (from 0) when " + std::to_string(need.consumed) +
                 " have been consumed");
    }
  }

  void check_activations() {
    if (!options_.max_activations) return;
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      int held = 0;
      int peak = 0;
      std::size_t peak_step = 0;
      const std::vector<Action>& actions = schedule_.actions[rank];
      for (std::size_t step = 0; step < actions.size(); ++step) {
        for (const Pass& pass : actions[step].passes()) {
          if (pass.kind == PassKind::kForward && ++held > peak) {
            peak = held;
            peak_step = step;
          }
          // In a pair the forward's activation is there while the backward's still is.
          if (releases_activation(pass.kind) || schedule_.passes == Passes::kForward) --held;
        }
      }
      if (peak <= *options_.max_activations) continue;
      report(Rule::kActivationLimit, rank, peak_step, actions[peak_step],
             on_rank(rank) + " holds " + std::to_string(peak) + " stage activations at " +
                 to_string(actions[peak_step]) + ": at most " + std::to_string(*options_.max_activations) +
                 " are allowed");
    }
  }

  const Schedule& schedule_;
  const Placement& placement_;
  const VerifyOptions& options_;
  Diagnostics found_;
  Diagnostics late_;                // passes before what they need, as long as that may be missing altogether
  std::vector<std::uint8_t> seen_;  // [stage][micro-batch] bits of the passes that run
};

}  // namespace

std::string_view rule_name(Rule rule) {
  constexpr std::array<std::string_view, kNumRules> kNames{"unknown-action",
                                                           "wrong-rank",
                                                           "missing-action",
                                                           "duplicate-action",
                                                           "mixed-backward",
                                                           "backward-before-forward",
                                                           "weight-before-input",
                                                           "overlap-depends-on-itself",
                                                           "deadlock",
                                                           "receive-buffers",
                                                           "channel",
                                                           "residency",
                                                           "group",
                                                           "activation-limit",
                                                           "claim",
                                                           "limit"};
  return kNames[static_cast<std::size_t>(rule)];
}

Verdict verify(const Schedule& schedule, const VerifyOptions& options) {
  if (schedule.actions.size() != static_cast<std::size_t>(schedule.num_ranks())) {
    Diagnostics found(options.max_diagnostics);
    found.add(Rule::kUnknownAction, [&] {
      return Diagnostic{Rule::kUnknownAction,
                        -1,
                        -1,
                        {},
                        "expected actions for " + std::to_string(schedule.num_ranks()) + " ranks, found " +
                            std::to_string(schedule.actions.size())};
    });
    return found.take();
  }
  return Verifier(schedule, options).verify();
}

}  // namespace counterflow
