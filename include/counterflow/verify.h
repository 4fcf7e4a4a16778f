// Judges a schedule: whether every rank that runs its lowered program (program.h) reaches the end, and
// whether it does all of the work within its limits. Never throws for a bad schedule: what it finds is data.
// Cost grows linearly with the number of passes. Safe to call from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/program.h"
#include "counterflow/schedule.h"

namespace counterflow {

/// What a schedule can break. rule_name() gives the spelling that reports use.
enum class Rule : std::uint8_t {
  kUnknownAction,    ///< a stage or micro-batch that the placement does not have, an overlap that is no F and
                     ///< B, a B, I or W where only forwards belong
  kWrongRank,        ///< a stage on a rank that the placement does not give it for that micro-batch
  kMissingAction,    ///< a forward, backward, input or weight gradient that no rank runs
  kDuplicateAction,  ///< one that runs twice
  kMixedBackward,    ///< B beside I or W of the same stage and micro-batch
  kBackwardBeforeForward,
  kWeightBeforeInput,  ///< W before I of the same stage and micro-batch
  kOverlapDependsOnItself,
  kDeadlock,         ///< actions that wait for each other in a circle
  kReceiveBuffers,   ///< too few receive buffers for the order in which messages are consumed
  kChannel,          ///< program: a send without its receive, or the other way round, or in another order
  kResidency,        ///< program: more transfers may have to run at once than a rank's device can
  kGroup,            ///< program: the two sides of a transfer are grouped differently
  kActivationLimit,  ///< more stage activations held than allowed
  kClaim,            ///< a bubble other than the one that the file claims
  kLimit,            ///< a bubble, ratio or makespan above what the caller allows
};

inline constexpr int kNumRules = 16;

std::string_view rule_name(Rule rule);  ///< "missing-action"

struct Diagnostic {
  Rule rule = Rule::kUnknownAction;
  std::int32_t rank = -1;  ///< -1 where no rank is to blame
  std::int32_t step = -1;  ///< index into the rank's actions; -1 where no step is to blame
  std::optional<Action> action;
  std::string message;
};

struct VerifyOptions {
  /// Receive buffers of every channel; by default as many as the schedule needs.
  std::optional<int> receive_buffers;

  /// Stage activations that a rank may hold at once, from the start of F to the end of B or W.
  std::optional<int> max_activations;

  /// Diagnostics kept; the rest are only counted.
  int max_diagnostics = 100;
};

struct Verdict {
  std::vector<Diagnostic> diagnostics;  ///< by rule in the order above, then rank and step
  std::int64_t num_diagnostics = 0;     ///< with those that were not kept

  bool ok() const { return num_diagnostics == 0; }
};

Verdict verify(const Schedule& schedule, const VerifyOptions& options = {});

/// Judges a lowered program under NCCL's rules: every send meets its receive in order, both sides group
/// alike, no buffer is overwritten, and the ranks' streams reach their ends. `max_resident` is the number of
/// transfers that a rank's device runs at once; by default as many as the rank has channel ends and
/// reductions. A diagnostic's step is the position in the rank's program.
Verdict verify(const Program& program, const Schedule& schedule, std::optional<int> max_resident = {});

/// The rank x step grid around the first diagnostic, the culprits marked, then one line a diagnostic. The
/// grid has as many steps as fit in `max_width` columns, at least the diagnostic's.
std::string draw(const Schedule& schedule, const Verdict& verdict, std::size_t max_width = std::string::npos);

/// The same of a program and what was found about it, rank x instruction.
std::string draw(const Program& program, const Schedule& schedule, const Verdict& verdict,
                 std::size_t max_width = std::string::npos);

}  // namespace counterflow
