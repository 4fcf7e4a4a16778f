// More micro-batches for an order: its middle, where every rank does the same again and again, once more.
#pragma once

#include <optional>

#include "problem.h"

namespace counterflow::searching {

/// The best order for `longer` that repeats a stretch of an order of `shorter`, which differs in the number
/// of micro-batches alone. Nothing where no stretch of the middle can be repeated.
std::optional<Order> stretch(const Problem& shorter, const Order& order, const Problem& longer);

}  // namespace counterflow::searching
