#include "counterflow/check.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

#include "counterflow/error.h"

namespace counterflow {
namespace {

Diagnostic limit(int rank, std::string message) {
  return {.rule = Rule::kLimit, .rank = rank, .step = -1, .action = {}, .message = std::move(message)};
}

/// The rank that idles most, the first of several.
int idlest_rank(const Simulation& simulation) {
  const auto most = std::max_element(simulation.ranks.begin(), simulation.ranks.end(),
                                     [](const auto& a, const auto& b) { return a.idle < b.idle; });
  return most == simulation.ranks.end() ? -1 : static_cast<int>(most - simulation.ranks.begin());
}

/// The shortest text that reads back as the same number, so that a ratio just above its limit shows as such.
std::string shortest(double value) {
  std::array<char, 32> text{};
  const auto result = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), result.ptr};
}

}  // namespace

std::vector<Diagnostic> check(const Simulation& simulation, const Limits& limits) {
  std::vector<Diagnostic> found;
  const double ratio = simulation.bubble_ratio();
  if (limits.max_bubble_ratio && ratio > *limits.max_bubble_ratio) {
    found.push_back(limit(-1, "bubble ratio " + shortest(ratio) + ", at most " +
                                  shortest(*limits.max_bubble_ratio) + " allowed"));
  }
  if (limits.max_bubble && simulation.bubble > *limits.max_bubble) {
    const int rank = idlest_rank(simulation);
    found.push_back(limit(rank, "bubble " + std::to_string(simulation.bubble) + ", at most " +
                                    std::to_string(*limits.max_bubble) + " allowed"));
  }
  if (limits.max_makespan && simulation.makespan > *limits.max_makespan) {
    found.push_back(limit(-1, "makespan " + std::to_string(simulation.makespan) + ", at most " +
                                  std::to_string(*limits.max_makespan) + " allowed"));
  }
  return found;
}

std::vector<Diagnostic> check_memory(const Simulation& simulation, const CostModel& costs) {
  std::vector<Diagnostic> found;
  std::int64_t most = 0;
  for (std::size_t rank = 0; rank < simulation.ranks.size(); ++rank) {
    const RankResult& one = simulation.ranks[rank];
    const std::int64_t bytes = one.peak_activation_bytes + one.static_bytes + one.receive_bytes;
    const std::int64_t memory = costs.memory(static_cast<int>(rank));
    if (memory == 0 || bytes - memory <= most) continue;
    most = bytes - memory;
    found = {limit(static_cast<int>(rank), "memory of " + std::to_string(bytes) + " bytes, at most " +
                                               std::to_string(memory) + " allowed")};
  }
  return found;
}

std::vector<Diagnostic> check_claims(const Schedule& schedule) {
  std::vector<Diagnostic> found;
  for (const Claim& claim : schedule.claims) {
    const Simulation run = simulate(schedule, claim.cost);
    if (run.bubble == claim.bubble) continue;
    const int rank = idlest_rank(run);
    found.push_back({.rule = Rule::kClaim,
                     .rank = rank,
                     .step = -1,
                     .action = {},
                     .message = "claims a bubble of " + std::to_string(claim.bubble) + " under " +
                                to_string(claim.cost) + ", but rank " + std::to_string(rank) + " idles for " +
                                std::to_string(run.bubble)});
  }
  return found;
}

Judgement judge(const Schedule& schedule, const VerifyOptions& options, const CostModel& costs,
                const Limits& limits) {
  costs.check(schedule.num_stages(), schedule.num_ranks());
  Judgement judgement{verify(schedule, options), {}};
  Verdict& verdict = judgement.verdict;
  const auto can_run = [](const Diagnostic& diagnostic) { return diagnostic.rule == Rule::kActivationLimit; };
  // What breaks a rule other than a limit may not reach its end: there is nothing to simulate.
  if (static_cast<std::int64_t>(verdict.diagnostics.size()) < verdict.num_diagnostics ||
      !std::all_of(verdict.diagnostics.begin(), verdict.diagnostics.end(), can_run)) {
    return judgement;
  }
  judgement.simulation = simulate(schedule, costs);
  for (std::vector<Diagnostic> more : {check_claims(schedule), check(*judgement.simulation, limits),
                                       check_memory(*judgement.simulation, costs)}) {
    verdict.num_diagnostics += static_cast<std::int64_t>(more.size());
    for (Diagnostic& diagnostic : more) verdict.diagnostics.push_back(std::move(diagnostic));
  }
  return judgement;
}

}  // namespace counterflow
