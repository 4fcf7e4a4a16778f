// What a search starts from: every known schedule that lies on a family's placement.
#pragma once

#include <string>
#include <vector>

#include "family.h"

namespace counterflow::searching {

struct Known {
  std::string name;  ///< "zbv", "chimera, folded"
  Schedule schedule;
};

/// The schedules of all generators, folded and unfolded where that leads to the placement. Costs and memory
/// are not looked at.
std::vector<Known> known_schedules(const Family& family);

}  // namespace counterflow::searching
