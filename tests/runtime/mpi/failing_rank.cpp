// A rank of a pipeline in which something goes wrong: mpi_failing_rank WHAT.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "counterflow/generate.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/mpi.h"
#include "counterflow/runtime/pipeline.h"

namespace counterflow::runtime {
namespace {

constexpr int kRanks = 4;
constexpr int kMicroBatches = 8;

at::Tensor forward(const std::string& what, const std::vector<std::string>& processes, int stage,
                   const at::Tensor& x, int call) {
  if (stage == 1 && call == 3) {
    if (what == "exception") throw std::runtime_error("out of luck");
    if (what == "killed") ::kill(::getpid(), SIGKILL);
    if (what == "exit") std::exit(3);
    if (what == "terminated") {
      // As mpirun does when a rank on another host has died.
      for (const std::string& process : processes)
        if (std::stoi(process) != ::getpid()) ::kill(std::stoi(process), SIGTERM);
      std::this_thread::sleep_for(std::chrono::hours(1));
    }
    if (what == "hang") std::this_thread::sleep_for(std::chrono::hours(1));
    if (what == "shape") return x.sum(0, true) * 1;
  }
  return (x.requires_grad() ? x : x.detach().requires_grad_()) * 1;
}

void train(Transport& transport, const std::string& what) {
  const std::vector<std::string> processes = transport.all_gather(std::to_string(::getpid()));
  int calls = 0;
  PipelineOptions options;
  options.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); };
  options.timeout = std::chrono::seconds(what == "hang" ? 1 : 30);
  Pipeline pipeline(
      generate("1f1b", {kRanks, kMicroBatches}), transport,
      [&](int stage) {
        return make_stage(
            [&, stage](const Tensors& inputs) {
              return Tensors{forward(what, processes, stage, inputs.at(0), ++calls)};
            },
            nullptr);
      },
      options);
  Batch batch;
  for (int m = 0; m < kMicroBatches; ++m) {
    batch.inputs.push_back({at::ones({2, 3})});
    batch.targets.push_back({at::ones({2, 3})});
  }
  pipeline.step(batch);
  if (what == "late" && transport.rank() == 2) throw std::runtime_error("the disk is full");
}

}  // namespace
}  // namespace counterflow::runtime

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  at::set_num_threads(1);
  try {
    counterflow::runtime::run_mpi(
        [&](counterflow::runtime::Transport& transport) { counterflow::runtime::train(transport, what); });
  } catch (const std::exception& error) {
    std::cerr << std::string("error: ") + error.what() + "\n";
    return 1;
  }
  std::cerr << "fine\n";
  return 0;
}
