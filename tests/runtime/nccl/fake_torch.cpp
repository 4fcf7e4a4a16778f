// What libtorch needs of its CUDA half for tensors on the fake device: operators, which are those of the CPU
// on the same memory. Linked, with fake_c10.cpp and fake_allocator.cpp, in place of libtorch_cuda and
// libc10_cuda.
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fake_allocator.h"
#include "fake_graph.h"
#include "misuse.h"

namespace counterflow::fake {
namespace {

const c10::Device kDevice(c10::DeviceType::CUDA, 0);

/// Says that there is a device.
struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
};

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::CUDA);

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &allocator(), kKeys, type.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(sizes, strides, &allocator(), kKeys, type.value_or(at::kFloat));
}

/// The same memory as a tensor of the other device.
at::Tensor on_host(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       tensor.options().device(at::kCPU));
}

at::Tensor on_device(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  const at::Tensor copy =
      at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(kDevice));
  on_host(copy).copy_(tensor);
  return copy;
}

c10::IValue on_host(const c10::IValue& value) {
  if (value.isTensor()) return on_host(value.toTensor());
  if (!value.isTensorList()) return value;
  c10::List<at::Tensor> all;
  for (const at::Tensor& tensor : value.toTensorVector()) all.push_back(on_host(tensor));
  return all;
}

/// The argument that a result is, where it is one: of in-place operators and those that fill in a result.
const c10::IValue* argument_of(const c10::Argument& result, const c10::FunctionSchema& schema,
                               const std::vector<c10::IValue>& arguments) {
  if (!result.alias_info() || !result.alias_info()->isWrite()) return nullptr;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* alias = schema.arguments()[i].alias_info();
    if (alias && *alias == *result.alias_info()) return &arguments[i];
  }
  return nullptr;
}

/// Calls for each tensor among values, those in lists too.
template <class Function>
void for_each_tensor(const std::vector<c10::IValue>& values, Function function) {
  for (const c10::IValue& value : values) {
    if (value.isTensor() && value.toTensor().defined()) function(value.toTensor());
    if (value.isTensorList())
      for (const at::Tensor& tensor : value.toTensorVector()) function(tensor);
  }
}

/// Whether the host has to wait for the operator's result.
bool synchronizes(const c10::OperatorHandle& op, const std::vector<c10::IValue>& arguments) {
  if (op.hasTag(at::Tag::data_dependent_output) || op.hasTag(at::Tag::dynamic_output_shape)) return true;
  bool host = false;
  for_each_tensor(arguments, [&](const at::Tensor& tensor) { host |= !tensor.is_cuda(); });
  return host && op.operator_name().name.find("copy_") != std::string::npos;
}

/// An operator in a graph: on the same memory each time. Numbers of the host stay what they were.
class Kernel {
 public:
  Kernel(c10::OperatorHandle op, const std::vector<c10::IValue>& arguments) : op_(std::move(op)) {
    for (const c10::IValue& argument : arguments) {
      const bool is_host =
          argument.isTensor() && argument.toTensor().defined() && !argument.toTensor().is_cuda();
      arguments_.push_back(is_host ? argument.toTensor().clone() : on_host(argument));
    }
  }

  void make(std::size_t result, const at::Tensor& tensor) { results_.emplace_back(result, on_host(tensor)); }

  torch::jit::Stack call() const {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    torch::jit::Stack stack = arguments_;
    op_.callBoxed(&stack);
    return stack;
  }

  bool operator()() const {
    try {
      const torch::jit::Stack stack = call();
      for (const auto& [index, tensor] : results_) tensor.copy_(stack[index].toTensor());
    } catch (const std::exception& error) {
      note_misuse("a graph's " + op_.operator_name().name + " failed: " + error.what());
    }
    return true;
  }

 private:
  c10::OperatorHandle op_;
  torch::jit::Stack arguments_;
  std::vector<std::pair<std::size_t, at::Tensor>> results_;  ///< that are none of the arguments
};

/// Results of an operator that is not run yet. What it makes is found by running it once; one that changes
/// its arguments must not be.
std::vector<c10::IValue> results_of(const c10::OperatorHandle& op, const std::vector<c10::IValue>& arguments,
                                    Kernel& kernel) {
  const c10::FunctionSchema& schema = op.schema();
  std::vector<c10::IValue> results;
  torch::jit::Stack made;
  for (std::size_t i = 0; i < schema.returns().size(); ++i) {
    if (const c10::IValue* argument = argument_of(schema.returns()[i], schema, arguments)) {
      results.push_back(*argument);
      continue;
    }
    if (schema.is_mutable())
      throw std::logic_error("the fake device's graphs hold no operator that both changes and makes tensors");
    if (made.empty()) made = kernel.call();
    const at::Tensor& like = made[i].toTensor();
    results.emplace_back(like.defined()
                             ? at::empty_strided(like.sizes(), like.strides(), like.options().device(kDevice))
                             : at::Tensor());
    if (like.defined()) kernel.make(i, results.back().toTensor());
  }
  return results;
}

/// Its results, whose memory holds nothing yet.
std::vector<c10::IValue> capture(cudaStream_t stream, const c10::OperatorHandle& op,
                                 const std::vector<c10::IValue>& arguments) {
  if (synchronizes(op, arguments)) C10_CUDA_CHECK(cudaStreamSynchronize(stream));
  C10_CUDA_CHECK(stream->point.capture->error());
  Kernel kernel(op, arguments);
  std::vector<c10::IValue> results = results_of(op, arguments, kernel);
  std::vector<const void*> memory;
  const auto note = [&memory](const at::Tensor& tensor) {
    if (tensor.is_cuda()) memory.push_back(tensor.storage().data());
  };
  for_each_tensor(arguments, note);
  for_each_tensor(results, note);
  C10_CUDA_CHECK(enqueue(stream, kernel, memory));
  return results;
}

/// Any operator, by the CPU's.
void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const std::vector<c10::IValue> arguments(stack->end() - schema.arguments().size(), stack->end());
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream().stream();
  if (stream->point.capture) {
    torch::jit::drop(*stack, arguments.size());
    for (c10::IValue& result : capture(stream, op, arguments)) stack->push_back(std::move(result));
    return;
  }
  check_takes_part(stream);
  synchronize(stream);
  for (std::size_t i = 0; i < arguments.size(); ++i)
    (*stack)[stack->size() - arguments.size() + i] = on_host(arguments[i]);
  op.callBoxed(stack);
  const std::size_t first = stack->size() - schema.returns().size();
  for (std::size_t i = 0; i < schema.returns().size(); ++i) {
    c10::IValue& result = (*stack)[first + i];
    if (const c10::IValue* argument = argument_of(schema.returns()[i], schema, arguments))
      result = *argument;
    else if (result.isTensor())
      result = on_device(result.toTensor());
    else if (result.isTensorList())
      throw std::logic_error("the fake device has no operators that make lists of tensors");
  }
}

/// As libtorch's own.
void record_stream(at::Tensor& tensor, c10::Stream stream) {
  allocator().recordStream(tensor.storage().data_ptr(), stream);
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("record_stream", &record_stream);
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("copy_", torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

TORCH_LIBRARY_IMPL(_, CUDA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

}  // namespace
}  // namespace counterflow::fake

namespace at {
using CUDAHooks = counterflow::fake::Hooks;  // the name by which they are looked up
REGISTER_CUDA_HOOKS(CUDAHooks)
}  // namespace at
