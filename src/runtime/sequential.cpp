#include "counterflow/runtime/sequential.h"

#include <numeric>
#include <string>

#include "counterflow/error.h"
#include "counterflow/runtime/module.h"

namespace counterflow::runtime {

StageFactory split(const torch::nn::Sequential& model, const std::vector<int>& num_modules) {
  const int total = std::accumulate(num_modules.begin(), num_modules.end(), 0);
  if (total != static_cast<int>(model->size()))
    throw InvalidConfig("stages of " + std::to_string(total) + " modules in all; the model has " +
                        std::to_string(model->size()));
  for (const int number : num_modules)
    if (number < 1) throw InvalidConfig("a stage of " + std::to_string(number) + " modules");
  return [model, num_modules](int stage) {
    if (stage >= static_cast<int>(num_modules.size()))
      throw InvalidConfig("the model is cut into " + std::to_string(num_modules.size()) +
                          " stages; the schedule has a stage " + std::to_string(stage));
    const int begin = std::accumulate(num_modules.begin(), num_modules.begin() + stage, 0);
    const auto names = model->named_children().keys();
    torch::nn::Sequential part;
    for (int i = begin; i < begin + num_modules[stage]; ++i) part->push_back(names[i], *(model->begin() + i));
    return make_stage(part);
  };
}

StageFactory split(const torch::nn::Sequential& model, int num_stages) {
  const int total = static_cast<int>(model->size());
  if (num_stages < 1 || num_stages > total)
    throw InvalidConfig("a model of " + std::to_string(total) + " modules cannot be cut into " +
                        std::to_string(num_stages) + " stages");
  std::vector<int> num_modules;
  for (int stage = 0; stage < num_stages; ++stage)
    num_modules.push_back((stage + 1) * total / num_stages - stage * total / num_stages);
  return split(model, num_modules);
}

}  // namespace counterflow::runtime
