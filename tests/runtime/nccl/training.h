// Training on the fake devices, whatever carries the tensors: what ranks as processes leave of each step.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "counterflow/runtime/cuda_recorder.h"
#include "counterflow/runtime/gpu.h"
#include "counterflow/runtime/pipeline.h"
#include "ranks.h"

namespace counterflow::fake {

struct Training {
  std::string_view generator = "1f1b";
  int num_ranks = 2;
  int num_micro_batches = 4;
  int steps = 6;
  bool records = true;
  bool evaluates = true;  ///< after some steps
  std::optional<int> streams = 1;
  std::optional<at::ScalarType> gradient_type{};
  std::chrono::milliseconds timeout = std::chrono::seconds(60);
  std::chrono::milliseconds heartbeat_timeout = std::chrono::seconds(10);  ///< long, for a busy machine
  runtime::GpuLink link = runtime::GpuLink::kNccl;
  bool may_share = false;  ///< a GPU
  int slots = 4;           ///< of the copy engines; of 16 bytes, so that messages take several
  std::function<std::shared_ptr<runtime::StepRecorder>()> recorder = [] {
    return runtime::make_cuda_recorder(0);
  };
  std::function<int(int step)> rows = [](int) { return 2; };  ///< of a micro-batch
  std::function<void(int rank)> before = [](int) {};          ///< setting up
  std::function<void(int rank)> between = [](int) {};         ///< the fourth step and the fifth
  std::function<void(int rank, const at::Tensor&)> forward = [](int, const at::Tensor&) {};  ///< before it
};

/// One rank's. Leaves the losses and gradients of every step. Some add to the gradients of the one before,
/// and some come after an evaluation.
void train(const Training& training, int rank, const OpenStore& open_store);

/// In a process for each rank.
std::vector<Outcome> run(const Training& training);

/// Every number is the same, to the bit, as where NCCL carries the tensors and nothing is recorded.
void expect_trains_as_unrecorded(const Training& training);

/// Every generator, with the fewest micro-batches that it takes.
std::vector<Training> trainings_of_generators(int num_ranks);

}  // namespace counterflow::fake
