// Random numbers that are the same on every machine, unlike the standard library's distributions.
#pragma once

#include <cstdint>

namespace counterflow::searching {

/// Vigna's xorshift64*, seeded through splitmix64 (http://xoshiro.di.unimi.it/splitmix64.c).
class Random {
 public:
  explicit Random(std::uint64_t seed) {
    std::uint64_t z = seed + 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    state_ = (z ^ (z >> 31)) | 1;
  }

  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dU;
  }

  /// Of 0 … n - 1.
  int below(int n) { return static_cast<int>(((next() >> 32) * static_cast<std::uint64_t>(n)) >> 32); }

  /// In [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

}  // namespace counterflow::searching
