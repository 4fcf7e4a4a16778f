// What libtorch needs of its CUDA half for tensors on the fake device: memory, the current stream, and
// operators, which are those of the CPU on the same memory. Linked in place of libtorch_cuda and libc10_cuda.
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "fake_device.h"

namespace counterflow::fake {
namespace {

const c10::Device kDevice(c10::DeviceType::CUDA, 0);

/// Given back in the order of the compute stream, as libtorch's allocator does.
struct Memory : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    void* memory = std::malloc(bytes + 1);
    return {memory, memory, &release, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }

  static void release(void* memory) {
    enqueue(compute_stream(), [memory] {
      std::free(memory);
      return true;
    });
  }
};
Memory memory;

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
/// Has one stream, so that nothing has to wait for another.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::DeviceType::CUDA; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::CUDA);

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &memory, kKeys, type.value_or(at::kFloat), format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(sizes, strides, &memory, kKeys, type.value_or(at::kFloat));
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

/// Any operator, by the CPU's.
void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  synchronize(compute_stream());
  const c10::FunctionSchema& schema = op.schema();
  const std::vector<c10::IValue> arguments(stack->end() - schema.arguments().size(), stack->end());
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

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
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

namespace c10::cuda {

void set_device(DeviceIndex, bool) {}

CUDAStream getCurrentCUDAStream(DeviceIndex) {
  return CUDAStream(Stream(Stream::DEFAULT, counterflow::fake::kDevice));
}

cudaStream_t CUDAStream::stream() const {
  return counterflow::fake::compute_stream();
}

void c10_cuda_check_implementation(int32_t error, const char*, const char* function, uint32_t, bool) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(function) + ": a CUDA error");
}

}  // namespace c10::cuda
