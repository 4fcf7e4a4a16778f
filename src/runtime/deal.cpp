#include <string>

#include "counterflow/error.h"
#include "counterflow/runtime/pipeline.h"

namespace counterflow::runtime {
namespace {

std::int64_t batch_size(const Tensors& inputs, const Tensors& targets) {
  std::int64_t size = -1;
  for (const Tensors* tensors : {&inputs, &targets}) {
    for (const at::Tensor& tensor : *tensors) {
      if (!tensor.defined()) continue;
      if (tensor.dim() == 0)
        throw InvalidConfig("deal: a tensor without dimensions cannot be cut into micro-batches");
      if (size >= 0 && tensor.size(0) != size)
        throw InvalidConfig("deal: first dimensions differ: " + std::to_string(size) + " and " +
                            std::to_string(tensor.size(0)));
      size = tensor.size(0);
    }
  }
  return size;
}

Tensors slice(const Tensors& tensors, std::int64_t begin, std::int64_t end) {
  Tensors parts;
  parts.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors)
    parts.push_back(tensor.defined() ? tensor.slice(0, begin, end) : tensor);
  return parts;
}

}  // namespace

Batch deal(const Tensors& inputs, const Tensors& targets, int num_micro_batches) {
  Batch batch;
  const std::int64_t size = batch_size(inputs, targets);
  if (size < 0) return batch;  // a rank in the middle, which has nothing
  if (num_micro_batches < 1 || size < num_micro_batches)
    throw InvalidConfig("deal: a batch of " + std::to_string(size) + " does not make " +
                        std::to_string(num_micro_batches) + " micro-batches");
  for (std::int64_t m = 0; m < num_micro_batches; ++m) {
    const std::int64_t begin = m * size / num_micro_batches;
    const std::int64_t end = (m + 1) * size / num_micro_batches;
    batch.inputs.push_back(slice(inputs, begin, end));
    batch.targets.push_back(slice(targets, begin, end));
    batch.weights.push_back(static_cast<double>(end - begin) / static_cast<double>(size));
  }
  if (targets.empty()) batch.targets.clear();
  return batch;
}

}  // namespace counterflow::runtime
