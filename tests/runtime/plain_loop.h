// The yardstick: the same training without a pipeline, by torch alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "models.h"

namespace plain {

/// What a run of several steps leaves: losses by step and micro-batch, gradients of the first step and
/// parameters at the end, by stage and parameter.
struct Run {
  std::vector<std::vector<at::Tensor>> losses;
  std::vector<std::vector<at::Tensor>> gradients;
  std::vector<std::vector<at::Tensor>> parameters;
};

/// What the process's generator starts from before a stage's forward.
using Seed = std::function<std::uint64_t(int step, int stage, int micro_batch)>;

/// The loop that anybody would write: for each micro-batch, forward, loss / num_micro_batches, backward; then
/// the tied gradients added, then AdamW.
Run train(const models::Model& model, int num_micro_batches, int num_steps, const Seed& seed);

/// The same sums in another order: copies[stage] lists, for each copy of the stage, its micro-batches in the
/// order in which their weight gradients are added; copies are added last. With a `gradient_type` the sums
/// are of that type.
Run train(const models::Model& model, int num_micro_batches, int num_steps, const Seed& seed,
          const std::vector<std::vector<std::vector<int>>>& copies,
          std::optional<at::ScalarType> gradient_type = {});

}  // namespace plain
