// A torch::nn::Sequential cut into stages.
#pragma once

#include <torch/nn/modules/container/sequential.h>

#include <vector>

#include "counterflow/runtime/pipeline.h"

namespace counterflow::runtime {

/// Stage i is the next num_modules[i] modules of the model, under the names that they have there. Throws
/// InvalidConfig where the numbers do not add up to the model's.
StageFactory split(const torch::nn::Sequential& model, const std::vector<int>& num_modules);

/// The same in `num_stages` parts as equal in number of modules as can be.
StageFactory split(const torch::nn::Sequential& model, int num_stages);

}  // namespace counterflow::runtime
