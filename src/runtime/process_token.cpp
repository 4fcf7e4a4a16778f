#include "process_token.h"

#include <random>

namespace counterflow::runtime {

std::uint64_t process_token() {
  static const std::uint64_t token = [] {
    std::random_device random;
    return std::uint64_t{random()} << 32 | random();
  }();
  return token;
}

}  // namespace counterflow::runtime
