#include "counterflow/error.h"
#include "gpus.h"

namespace train_gpt {
namespace {

[[noreturn]] void refuse() {
  throw counterflow::InvalidConfig(
      "this program's ranks are on the CPU: train_gpt_gpu, built where CUDA and NCCL are, has them on GPUs");
}

}  // namespace

const bool kHasGpus = false;

int num_launched() {
  refuse();
}

void run_on_gpu(const Options&, const std::function<void(const GpuRank&)>&) {
  refuse();
}

}  // namespace train_gpt
