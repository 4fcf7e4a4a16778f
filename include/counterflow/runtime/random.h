// Random numbers that do not depend on the schedule, nor on which thread runs a stage.
//
// torch's default generator belongs to the process: ranks that are threads would draw from it in turns. The
// runtime gives each forward pass a generator of its own, seeded from what is computed and not from when, so
// that dropout gives the same masks under every schedule, and the same ones again in recomputation.
#pragma once

#include <cstdint>
#include <memory>

namespace counterflow::runtime {

/// The seed of the forward pass of a micro-batch through a stage: the four numbers as 64-bit words, each
/// added and then mixed by SplitMix64's finalizer. torch::manual_seed() with it, before the same forward pass
/// outside a pipeline, gives the same numbers.
std::uint64_t random_seed(std::uint64_t seed, std::int64_t step, int stage, int micro_batch);

struct RandomState;

/// While this lives, torch operators called on this thread that draw random numbers on the CPU or on an
/// NVIDIA GPU, and are given no generator, use one that starts from `seed`. Scopes nest; a scope ends on the
/// thread where it began. In a recorded step (recorder.h) every replay draws what the step would draw as it
/// is.
///
/// Operators that take no generator draw from their GPU's default one (fused dropout and attention): that is
/// lent to the scope while they run, to one thread at a time. Threads that draw on the same GPU meanwhile
/// have scopes, too. What cuDNN's recurrent layers drop out does not follow scopes: they keep a state of
/// their own.
class RandomScope {
 public:
  explicit RandomScope(std::uint64_t seed);
  ~RandomScope();
  RandomScope(const RandomScope&) = delete;
  RandomScope& operator=(const RandomScope&) = delete;

 private:
  std::unique_ptr<RandomState> state_;
};

}  // namespace counterflow::runtime
