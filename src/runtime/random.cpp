#include "counterflow/runtime/random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <optional>

namespace counterflow::runtime {
namespace {

// A key that torch reserves for experiments: above autograd, switched on for a thread at a time, and passed
// over by every operator that has no kernel for it.
constexpr auto kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

}  // namespace

/// A thread's scopes form a list. A generator is made when the first number is drawn: most passes draw none.
struct RandomState {
  explicit RandomState(std::uint64_t start) : seed(start), outer(innermost), intercept(kKey) {
    innermost = this;
  }
  ~RandomState() { innermost = outer; }
  RandomState(const RandomState&) = delete;
  RandomState& operator=(const RandomState&) = delete;

  const at::Generator& get() {
    if (!generator) generator = at::make_generator<at::CPUGeneratorImpl>(seed);
    return *generator;
  }

  static inline thread_local RandomState* innermost = nullptr;

  std::uint64_t seed;
  std::optional<at::Generator> generator;
  RandomState* outer;
  c10::impl::IncludeDispatchKeyGuard intercept;
};

namespace {

/// The index of an operator's generator, or -1.
int generator_argument(const c10::FunctionSchema& schema) {
  const auto& arguments = schema.arguments();
  for (std::size_t i = 0; i < arguments.size(); ++i)
    if (arguments[i].type()->str() == "Generator?") return static_cast<int>(i);
  return -1;
}

/// Runs an operator, with the scope's generator if it draws on the CPU and was given none. An operator
/// without a tensor makes one and calls another operator, which comes here in its turn.
void give_generator(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  c10::IValue& generator =
      torch::jit::peek(*stack, generator_argument(op.schema()), op.schema().arguments().size());
  if (generator.isNone() && RandomState::innermost) {
    for (const c10::IValue& argument : arguments) {
      if (!argument.isTensor() || !argument.toTensor().defined()) continue;
      if (argument.toTensor().is_cpu()) generator = RandomState::innermost->get();
      break;
    }
  }
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kKey), stack);
}

/// For all operators that take a generator, for the rest of the program's life.
bool intercept_operators() {
  static torch::Library everything(torch::Library::IMPL, "_", kKey, __FILE__, __LINE__);
  everything.fallback(torch::CppFunction::makeFallthrough());
  static torch::Library aten(torch::Library::IMPL, "aten", kKey, __FILE__, __LINE__);
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (name.getNamespace() != "aten") continue;
    const auto op = c10::Dispatcher::singleton().findSchema(name);
    if (op && generator_argument(op->schema()) >= 0)
      aten.impl(toString(name).c_str(), torch::CppFunction::makeFromBoxedFunction<&give_generator>());
  }
  return true;
}

/// SplitMix64's finalizer (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

}  // namespace

std::uint64_t random_seed(std::uint64_t seed, std::int64_t step, int stage, int micro_batch) {
  std::uint64_t state = mix(seed);
  state = mix(state + static_cast<std::uint64_t>(step));
  state = mix(state + static_cast<std::uint64_t>(stage));
  return mix(state + static_cast<std::uint64_t>(micro_batch));
}

RandomScope::RandomScope(std::uint64_t seed) {
  static const bool intercepted = intercept_operators();
  static_cast<void>(intercepted);
  state_ = std::make_unique<RandomState>(seed);
}

RandomScope::~RandomScope() = default;

}  // namespace counterflow::runtime
