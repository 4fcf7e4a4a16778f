// One step of 1F1B on two threads, through the installed headers and library.
#include <counterflow/generate.h>
#include <counterflow/runtime/local.h>
#include <counterflow/runtime/pipeline.h>
#include <counterflow/runtime/sequential.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <iostream>

int main() {
  using namespace counterflow;
  double loss = NAN;
  runtime::run_local(2, [&loss](runtime::Transport& transport) {
    const torch::nn::Sequential model(torch::nn::Linear(4, 4), torch::nn::Linear(4, 4));
    runtime::Pipeline pipeline(generate("1f1b", {2, 4}), transport, runtime::split(model, 2),
                               {.loss = [](const at::Tensor& output, const at::Tensor& target) {
                                 return (output - target).pow(2).mean();
                               }});
    const double total = pipeline.total_loss(pipeline.step({torch::ones({8, 4})}, {torch::zeros({8, 4})}));
    if (transport.rank() == 0) loss = total;
  });
  std::cout << "loss " << loss << "\n";
  return std::isfinite(loss) ? 0 : 1;
}
