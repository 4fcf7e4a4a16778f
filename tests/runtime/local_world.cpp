#include "world.h"

namespace counterflow::runtime {

World local_world(const LocalOptions& options) {
  return {options.rendezvous ? "rendezvous" : "local",
          [options](int num_ranks, const std::function<void(Transport&)>& body) {
            run_local(num_ranks, body, options);
          }};
}

}  // namespace counterflow::runtime
