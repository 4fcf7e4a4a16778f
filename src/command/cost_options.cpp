#include "cost_options.h"

#include <algorithm>
#include <vector>

#include "checks.h"
#include "units.h"

namespace counterflow::command {
namespace {

constexpr const char* kGroup = "Costs";

}  // namespace

void CostOptions::add_to(CLI::App& app) {
  CLI::Option* uniform = app.add_option(
      "--cost", cost,
      "Times of every stage: forward, input gradient, weight gradient and overlapped pair, like "
      "f=1,i=1,w=1,fb=3 (each 1 where left out, and fb f+i+w)");
  CLI::Option* transfer =
      app.add_option("--p2p", p2p, "Time from a producer's end to the arrival on another rank (0)")
          ->check(whole_number(0, kMaxNumber));
  CLI::Option* file = app.add_option("--cost-file", cost_file,
                                     "Costs of every stage and link, as JSON (schedules/README.md)");
  uniform->type_name("COST")->group(kGroup);
  transfer->type_name("TIME")->group(kGroup);
  file->type_name("FILE")->group(kGroup)->excludes(uniform)->excludes(transfer);
}

CostModel CostOptions::read() const {
  if (!cost_file.empty()) return read_cost_file(cost_file);
  return {cost.empty() ? UniformCost{} : parse_uniform_cost(cost), p2p};
}

std::string CostOptions::describe() const {
  if (!cost_file.empty()) return "costs of " + cost_file;
  return to_string(cost.empty() ? UniformCost{} : parse_uniform_cost(cost)) +
         (p2p == 0 ? "" : ", transfers " + std::to_string(p2p));
}

std::string memory_line(const CostModel& costs) {
  if (!costs.has_memory()) return "";
  const auto takes_memory = [](const StageCost& stage) {
    return stage.activation_bytes > 0 || stage.weight_store_bytes > 0 || stage.output_bytes > 0 ||
           stage.parameter_bytes > 0 || stage.gradient_bytes > 0 || stage.optimizer_bytes > 0;
  };
  const std::vector<StageCost>& parts = costs.layers.empty() ? costs.stages : costs.layers;
  const bool fits = std::none_of(parts.begin(), parts.end(), takes_memory);
  return (costs.memory_of_rank.empty() ? "memory of a rank: " + bytes_text(costs.memory_bytes)
                                       : std::string("memory of each rank: as in the cost file")) +
         (fits ? "; the costs have no bytes, so that everything fits\n" : "\n");
}

}  // namespace counterflow::command
