// How far the sweeps over sizes go: a sample by default, everything where COUNTERFLOW_FULL is set in the
// environment (`tools/test --full`).
#pragma once

#include <cstdlib>
#include <string_view>

namespace counterflow::testing {

inline bool full_sweeps() {
  const char* const value = std::getenv("COUNTERFLOW_FULL");
  return value != nullptr && std::string_view(value) != "" && std::string_view(value) != "0";
}

/// `full` where sweeps are full, otherwise `sample`.
inline int sweep(int sample, int full) {
  return full_sweeps() ? full : sample;
}

}  // namespace counterflow::testing
