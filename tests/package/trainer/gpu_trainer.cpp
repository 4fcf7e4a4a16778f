// A rank on a GPU, through the installed headers and libraries.
#include <counterflow/runtime/gpu.h>
#include <counterflow/runtime/launch.h>

#include <iostream>

using namespace counterflow::runtime;

int main() {
  const Launch launch = read_launch();
  const auto transport = make_gpu_transport([&] { return open_store(launch); }, launch.rank, launch.num_ranks,
                                            {.device = launch.local_rank});
  std::cout << "rank " << transport->rank() << " of " << transport->num_ranks() << "\n";
}
