// List scheduling: orders made step by step, whatever can start next by priorities, within memory.
#pragma once

#include <vector>

#include "problem.h"
#include "random.h"

namespace counterflow::searching {

/// What a rank prefers. Times are in units of the problem's mean forward.
struct Preferences {
  double room = 1;             ///< share of the memory above the least that forwards may fill
  bool forward_first = false;  ///< a forward before a gradient that could start as early, while there is room
  bool deep_forwards = true;   ///< of several forwards that of the last stage
  bool deep_gradients = true;  ///< of several gradients that of the last stage
  double patience = 0;         ///< how long it waits for what it prefers
  double pair_patience = 0;    ///< how long it waits for the other half of a pair
  int most_weights = 1 << 30;  ///< Ws put off at most
  double gap = 1;              ///< a W goes first where this share of it fits before the next step
  double noise = 0;            ///< by how much arrivals are misjudged, at random
};

Preferences random_preferences(Random& random);

/// Why no schedule of the problem fits the memory of some rank; "" where one does.
std::string why_infeasible(const Problem& problem);

/// An order that fits the memory, which must suffice for one.
Order construct(const Problem& problem, const Preferences& preferences, Random& random);

}  // namespace counterflow::searching
