// How long every schedule of a problem takes at least.
#pragma once

#include "problem.h"

namespace counterflow::searching {

/// Lower bounds of the makespan, whatever the order. Each looks at a part of what holds a schedule up; all
/// hold for bidirectional schedules too, since none of them relies on what happens on more than one rank at a
/// time.
struct Bounds {
  Time work = 0;   ///< the passes of the fullest rank, with as many overlapped pairs as there can be
  Time path = 0;   ///< one micro-batch through all stages and back
  Time ramps = 0;  ///< work, and what a rank idles before its passes can start and after its last gradient
  Time lifespans =
      0;  ///< the activations of a rank, each held for as long as its way to the end and back takes

  Time best() const;
};

Bounds bounds_of(const Problem& problem);

}  // namespace counterflow::searching
