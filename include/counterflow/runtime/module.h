// Torch modules and callables as stages.
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "counterflow/error.h"
#include "counterflow/runtime/stage.h"

namespace torch::nn {
class Module;
}

namespace counterflow::runtime {

/// A stage that calls `forward`; parameters, buffers and mode are those of `module`, which may be null.
std::shared_ptr<Stage> make_stage(std::function<Tensors(const Tensors&)> forward,
                                  std::shared_ptr<torch::nn::Module> module);

namespace detail {

inline void append(Tensors& all, at::Tensor tensor) {
  all.push_back(std::move(tensor));
}
inline void append(Tensors& all, Tensors tensors) {
  for (at::Tensor& tensor : tensors) all.push_back(std::move(tensor));
}
template <class... Parts>
void append(Tensors& all, std::tuple<Parts...> parts) {
  std::apply([&all](auto&... part) { (append(all, std::move(part)), ...); }, parts);
}

/// Calls f(inputs[0], …) with as many tensors as there are, where f takes that many.
template <class Forward, std::size_t... Index>
bool call(const Forward& f, const Tensors& inputs, Tensors& outputs, std::index_sequence<Index...>) {
  if constexpr (requires { f(inputs[Index]...); }) {
    if (inputs.size() != sizeof...(Index)) return false;
    append(outputs, f(inputs[Index]...));
    return true;
  } else {
    return false;
  }
}

template <class Forward>
Tensors call(const Forward& f, const Tensors& inputs) {
  Tensors outputs;
  const bool called = call(f, inputs, outputs, std::make_index_sequence<1>()) ||
                      call(f, inputs, outputs, std::make_index_sequence<2>()) ||
                      call(f, inputs, outputs, std::make_index_sequence<3>()) ||
                      call(f, inputs, outputs, std::make_index_sequence<4>()) ||
                      call(f, inputs, outputs, std::make_index_sequence<5>()) ||
                      call(f, inputs, outputs, std::make_index_sequence<6>());
  if (called) return outputs;
  if constexpr (requires { f(inputs); }) {
    append(outputs, f(inputs));
    return outputs;
  }
  throw InvalidConfig("this stage's forward does not take " + std::to_string(inputs.size()) + " tensor(s)");
}

/// A module's forward as a function, for as many tensors as it takes.
template <class Pointer>
struct ModuleForward {
  Pointer module;

  template <class... Inputs>
  requires requires(Pointer pointer, const Inputs&... inputs) { pointer->forward(inputs...); }
  auto operator()(const Inputs&... inputs) const { return module->forward(inputs...); }
};

}  // namespace detail

/// A stage of a torch module: a module holder (torch::nn::Sequential, one of TORCH_MODULE's) or a shared
/// pointer to one. Its forward() takes one to six tensors or a vector of them, and returns a tensor, a
/// vector, or a tuple of these.
template <class Module>
requires requires(Module module) {
  module->parameters();
}
std::shared_ptr<Stage> make_stage(Module module) {
  auto pointer = [&module] {
    if constexpr (requires { module.ptr(); })
      return module.ptr();
    else
      return std::move(module);
  }();
  const detail::ModuleForward<decltype(pointer)> forward{pointer};
  return make_stage([forward](const Tensors& inputs) { return detail::call(forward, inputs); }, pointer);
}

}  // namespace counterflow::runtime
