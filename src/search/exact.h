// Small cases, exactly: all schedules that could be better are gone through.
#pragma once

#include <cstdint>
#include <stop_token>

#include "problem.h"

namespace counterflow::searching {

struct Exact {
  enum class Answer : std::uint8_t {
    kFound,   ///< `order` takes no longer than was asked for
    kNone,    ///< no order does
    kGaveUp,  ///< too many states, or stopped
  };

  Answer answer = Answer::kGaveUp;
  Order order;
  std::int64_t num_states = 0;
};

/// Whether it knows the problem's kind: no limits in bytes, no queues of messages, no passes that take no
/// time.
bool exact_applies(const Problem& problem);

/// Looks for an order that takes at most `deadline`, through at most `most_states` states (each takes some
/// 100 bytes).
Exact find_order(const Problem& problem, Time deadline, std::int64_t most_states,
                 const std::stop_token& stop);

}  // namespace counterflow::searching
