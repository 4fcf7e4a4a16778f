// Random numbers in a step that is being recorded: what they start from is known only when it is replayed.
#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>

namespace counterflow::runtime {

/// Makes the generators of random scopes (random.h) that draw on a device while a step is recorded there.
class RandomRecording {
 public:
  virtual ~RandomRecording() = default;

  /// One for a scope that starts from `seed` now. A replay may start it from another.
  virtual at::Generator make_generator(std::uint64_t seed) = 0;
};

/// The calling thread's, while it records; null otherwise.
RandomRecording*& current_random_recording();

}  // namespace counterflow::runtime
