// A sequential libtorch model, trained along DualPipe over four ranks: what it takes beside the model itself.
#include <torch/torch.h>

#include <iostream>

#include "counterflow/generate.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/pipeline.h"
#include "counterflow/runtime/sequential.h"

namespace cf = counterflow;
namespace nn = torch::nn;

int main() {
  at::set_num_threads(1);  // every rank is a thread
  cf::runtime::run_local(4, [](cf::runtime::Transport& transport) {
    nn::Sequential model(nn::Linear(8, 64), nn::GELU(), nn::Linear(64, 64), nn::GELU(), nn::Linear(64, 64),
                         nn::GELU(), nn::Linear(64, 1));
    cf::runtime::Pipeline pipeline(cf::generate("dualpipe", {4, 8}), transport, cf::runtime::split(model, 4),
                                   {.loss = [](const at::Tensor& y, const at::Tensor& target) {
                                     return nn::functional::mse_loss(y, target);
                                   }});
    torch::optim::AdamW optimizer(pipeline.parameters(), 3e-3);

    for (int step = 0; step < 300; ++step) {
      const at::Tensor x = torch::arange(64 * 8).add(step * 64 * 8).mul(0.37).sin().view({64, 8});
      optimizer.zero_grad();
      const cf::runtime::StepResult result = pipeline.step({x}, {x.slice(1, 0, 1) * x.slice(1, 1, 2)});
      optimizer.step();
      const double loss = pipeline.total_loss(result);
      if (transport.rank() == 0 && step % 100 == 99)
        std::cout << "step " << step + 1 << ": loss " << loss << "\n";
    }
  });
}
