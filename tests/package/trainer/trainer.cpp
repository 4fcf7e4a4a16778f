// One step of 1F1B on two ranks, through the installed headers and libraries.
#include <counterflow/generate.h>
#include <counterflow/runtime/local.h>
#ifdef WITH_MPI
#include <counterflow/runtime/mpi.h>
#endif
#include <counterflow/runtime/pipeline.h>
#include <counterflow/runtime/sequential.h>
#include <torch/nn/modules/linear.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <iostream>

using namespace counterflow;

int main(int argc, char** argv) {
  std::atomic<double> loss = NAN;
  const auto train = [&loss](runtime::Transport& transport) {
    const torch::nn::Sequential model(torch::nn::Linear(4, 4), torch::nn::Linear(4, 4));
    runtime::Pipeline pipeline(generate("1f1b", {2, 4}), transport, runtime::split(model, 2),
                               {.loss = [](const at::Tensor& output, const at::Tensor& target) {
                                 return (output - target).pow(2).mean();
                               }});
    loss = pipeline.total_loss(pipeline.step({torch::ones({8, 4})}, {torch::zeros({8, 4})}));
  };
  if (argc > 1 && std::strcmp(argv[1], "--processes") == 0) {
#ifdef WITH_MPI
    runtime::run_mpi(train);
#else
    return 2;
#endif
  } else {
    runtime::run_local(2, train);
  }
  std::cout << "loss " << loss << "\n";
  return std::isfinite(loss) ? 0 : 1;
}
