#include "counterflow/runtime/tensors.h"

#include <algorithm>

namespace counterflow::runtime {

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "none";
  std::string text = c10::toString(tensor.scalar_type());
  text += "[";
  for (std::int64_t i = 0; i < tensor.dim(); ++i) text += (i ? ", " : "") + std::to_string(tensor.size(i));
  return text + "]";
}

std::string describe(const Tensors& tensors) {
  std::string text;
  for (const at::Tensor& tensor : tensors) text += (text.empty() ? "" : ", ") + describe(tensor);
  return text.empty() ? "nothing" : text;
}

bool alike(const Tensors& a, const Tensors& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const at::Tensor& x, const at::Tensor& y) {
    if (x.defined() != y.defined()) return false;
    return !x.defined() || (x.scalar_type() == y.scalar_type() && x.sizes() == y.sizes());
  });
}

}  // namespace counterflow::runtime
