#include "world.h"

namespace counterflow::runtime {

std::vector<World> worlds() {
  return {local_world(), local_world({.rendezvous = true})};
}

}  // namespace counterflow::runtime
