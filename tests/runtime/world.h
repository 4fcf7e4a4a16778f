// The ways in which tests run ranks: one for each transport, so that the same test holds for all.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "counterflow/runtime/local.h"

namespace counterflow::runtime {

struct World {
  std::string name;

  /// As run_local().
  std::function<void(int num_ranks, const std::function<void(Transport&)>& body)> run;

  bool processes = false;  ///< Whether ranks are processes, which share no variables.
};

World local_world(const LocalOptions& options = {});

/// Those that the test program at hand is for.
std::vector<World> worlds();

}  // namespace counterflow::runtime
