#include "counterflow/runtime/random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <array>
#include <mutex>
#include <optional>
#include <vector>

#include "random_recording.h"

namespace counterflow::runtime {
namespace {

// A key that torch reserves for experiments: above autograd, switched on for a thread at a time, and passed
// over by every operator that has no kernel for it.
constexpr auto kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

/// Held by whoever reads or changes which numbers a GPU's default generator draws. An operator that holds it
/// may call another that takes it again.
std::recursive_mutex& mutex_of(const at::Device& gpu) {
  static std::array<std::recursive_mutex, 128> mutexes;
  return mutexes[static_cast<std::size_t>(gpu.index()) % mutexes.size()];
}

at::Generator make_generator(const at::Device& device, std::uint64_t seed) {
  if (device.is_cpu()) return at::make_generator<at::CPUGeneratorImpl>(seed);
  if (RandomRecording* const recording = current_random_recording()) return recording->make_generator(seed);
  const std::lock_guard lock(mutex_of(device));
  at::Generator generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(seed);
  return generator;
}

/// While this lives, a GPU's default generator draws what another would, and both go on from there.
class AsDefault {
 public:
  explicit AsDefault(const at::Generator& generator)
      : lock_(mutex_of(generator.device())),
        default_(at::globalContext().defaultGenerator(generator.device())),
        before_(default_.graphsafe_get_state()) {
    default_.graphsafe_set_state(generator);
  }
  ~AsDefault() { default_.graphsafe_set_state(before_); }
  AsDefault(const AsDefault&) = delete;
  AsDefault& operator=(const AsDefault&) = delete;

 private:
  const std::lock_guard<std::recursive_mutex> lock_;
  at::Generator default_;
  const at::Generator before_;
};

}  // namespace

/// A thread's scopes form a list. A generator is made when the first number is drawn: most passes draw none.
struct RandomState {
  explicit RandomState(std::uint64_t start) : seed(start), outer(innermost), intercept(kKey) {
    innermost = this;
  }
  ~RandomState() { innermost = outer; }
  RandomState(const RandomState&) = delete;
  RandomState& operator=(const RandomState&) = delete;

  const at::Generator& get(const at::Device& device) {
    for (const at::Generator& generator : generators)
      if (generator.device() == device) return generator;
    return generators.emplace_back(make_generator(device, seed));
  }

  static inline thread_local RandomState* innermost = nullptr;

  std::uint64_t seed;
  std::vector<at::Generator> generators;  ///< one a device
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

/// Where an operator draws: where its first tensor is.
std::optional<at::Device> device_of(torch::jit::Stack& stack, std::size_t num_arguments) {
  for (const c10::IValue& argument : torch::jit::last(stack, num_arguments))
    if (argument.isTensor() && argument.toTensor().defined()) return argument.toTensor().device();
  return std::nullopt;
}

/// Runs an operator with the scope's generator if it draws on the CPU or a GPU and was given none. An
/// operator without a tensor makes one and calls another operator, which comes here in its turn.
void give_generator(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const std::size_t num_arguments = op.schema().arguments().size();
  const auto below = keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kKey);
  RandomState* const scope = RandomState::innermost;
  const std::optional<at::Device> device = scope ? device_of(*stack, num_arguments) : std::nullopt;
  if (!device || !(device->is_cpu() || device->is_cuda())) return op.redispatchBoxed(below, stack);
  const int place = generator_argument(op.schema());
  if (place >= 0) {
    c10::IValue& generator = torch::jit::peek(*stack, place, num_arguments);
    if (generator.isNone()) generator = scope->get(*device);
  } else if (device->is_cuda()) {
    const AsDefault as_default(scope->get(*device));
    return op.redispatchBoxed(below, stack);
  }
  op.redispatchBoxed(below, stack);
}

/// Operators that take a generator; and those that draw on a GPU and take none, as fused dropout and
/// attention do. What is composed of others is left to these.
bool draws(const c10::OperatorHandle& op) {
  if (generator_argument(op.schema()) >= 0) return true;
  return op.hasTag(at::Tag::nondeterministic_seeded) &&
         !op.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd);
}

/// For all of them, for the rest of the program's life.
bool intercept_operators() {
  static torch::Library everything(torch::Library::IMPL, "_", kKey, __FILE__, __LINE__);
  everything.fallback(torch::CppFunction::makeFallthrough());
  static torch::Library aten(torch::Library::IMPL, "aten", kKey, __FILE__, __LINE__);
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (name.getNamespace() != "aten") continue;
    const auto op = c10::Dispatcher::singleton().findSchema(name);
    if (op && draws(*op))
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

RandomRecording*& current_random_recording() {
  static thread_local RandomRecording* current = nullptr;
  return current;
}

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
