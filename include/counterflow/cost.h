// What a schedule's passes and transfers take: integer times and bytes.
//
// Times are in whatever unit the caller measures in (the cost files that `profile` writes use microseconds);
// everything computed from them is exact. Values, safe to read from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/action.h"

namespace counterflow {

using Time = std::int64_t;

/// The same times for every stage: forward, input gradient, weight gradient and the overlapped pair. A full
/// backward takes i + w. Without `fb` a pair takes f + i + w: overlapping gains nothing.
struct UniformCost {
  Time f = 1;
  Time i = 1;
  Time w = 1;
  std::optional<Time> fb;

  Time b() const { return i + w; }
  Time overlap() const { return fb.value_or(f + i + w); }

  friend bool operator==(const UniformCost&, const UniformCost&) = default;
};

/// Reads "f=1,i=1,w=1,fb=3" (each key at most once, in any order; a key left out is 1, fb left out is f + i +
/// w). Throws InvalidConfig for anything else, for a negative time and for a time above 10^12.
UniformCost parse_uniform_cost(std::string_view text);

/// The form that parse_uniform_cost() reads.
std::string to_string(const UniformCost& cost);

}  // namespace counterflow
