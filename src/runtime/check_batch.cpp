#include "check_batch.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <string>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

bool has(const std::vector<Tensors>& tensors, int micro_batch) {
  const auto m = static_cast<std::size_t>(micro_batch);
  return m < tensors.size() && !tensors[m].empty();
}

void check_counts(const Batch& batch, int num_micro_batches) {
  const auto expected = static_cast<std::size_t>(num_micro_batches);
  const std::string schedules = " micro-batches; the schedule has " + std::to_string(num_micro_batches);
  if (!batch.weights.empty() && batch.weights.size() != expected)
    throw InvalidConfig(std::to_string(batch.weights.size()) + " weights for " +
                        std::to_string(num_micro_batches) + " micro-batches");
  if (batch.inputs.size() > expected)
    throw InvalidConfig("inputs of " + std::to_string(batch.inputs.size()) + schedules);
  if (batch.targets.size() > expected)
    throw InvalidConfig("targets of " + std::to_string(batch.targets.size()) + schedules);
}

/// A loss may do without targets; but where there are some none may be missing.
void check_targets(const Batch& batch, const Schedule& schedule, int rank) {
  int missing = -1;
  bool has_some = false;
  for (int m = 0; m < schedule.num_micro_batches(); ++m) {
    if (schedule.placement.rank_of(schedule.num_stages() - 1, m) != rank) continue;
    const bool is_there = has(batch.targets, m);
    has_some |= is_there;
    if (!is_there && missing < 0) missing = m;
  }
  if (has_some && missing >= 0)
    throw InvalidConfig("the targets of micro-batch " + std::to_string(missing) +
                        " are missing, which comes out at this rank");
}

}  // namespace

void check_batch(const Batch& batch, const Schedule& schedule, int rank, const PipelineOptions& options,
                 bool training) {
  check_counts(batch, schedule.num_micro_batches());
  for (int m = 0; m < schedule.num_micro_batches(); ++m)
    if (schedule.placement.rank_of(0, m) == rank && !has(batch.inputs, m))
      throw InvalidConfig("the inputs of micro-batch " + std::to_string(m) +
                          " are missing, which go in at this rank");
  if (!training) return;
  const std::vector<std::int32_t> last = schedule.placement.ranks_of(schedule.num_stages() - 1);
  if (!options.loss && std::find(last.begin(), last.end(), rank) != last.end())
    throw InvalidConfig("PipelineOptions::loss is missing on a rank that holds the last stage");
  check_targets(batch, schedule, rank);
  if (c10::InferenceMode::is_enabled())
    throw InvalidConfig("there are no gradients under c10::InferenceMode: take the step outside of it");
}

std::pair<const at::Tensor&, const at::Tensor&> detail::output_and_target(const Tensors& outputs,
                                                                          const Tensors& targets) {
  if (outputs.empty()) throw InvalidConfig("the last stage gave no output for the loss");
  if (targets.empty())
    throw InvalidConfig(
        "the loss takes a target, and this micro-batch, which comes out at this rank, has none "
        "(Pipeline::takes_target())");
  return {outputs.front(), targets.front()};
}

}  // namespace counterflow::runtime
