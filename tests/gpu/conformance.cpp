// Pipelines on GPUs against the plain loop, over every generator that fits the ranks.
//
//   gpu_conformance processes LINK          this process is one rank; the launcher's variables say which
//                                           (launch.h)
//   gpu_conformance threads LINK RANKS      ranks are threads, a GPU each
//   gpu_conformance local - RANKS           ranks are threads that share the GPUs there are
//   gpu_conformance killed|throws|stuck|misfit|killed-recorded|killed-replaying|absent LINK
//                                           as processes: rank 1 ends badly, the others must notice; with
//                                           misfit it has a batch that does not fit its recorded step, with
//                                           absent it stays away from one, with killed-replaying it ends in
//                                           the midst of one
//   gpu_conformance shared LINK             as processes: all on one GPU, which is refused
//
// LINK is nccl, copy or automatic (gpu.h). Where there are fewer GPUs than ranks, ranks share them (over NCCL
// as processes, and with an NCCL_HOSTID each).
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <utility>

#include "case.h"
#include "counterflow/generate.h"
#include "counterflow/runtime/cuda_recorder.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/gpu.h"
#include "counterflow/runtime/launch.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pipeline.h"
#include "counterflow/timeline.h"
#include "on_device.h"
#include "report.h"

namespace counterflow::runtime {
namespace {

using Clock = std::chrono::steady_clock;
using OpenStore = std::function<c10::intrusive_ptr<c10d::Store>()>;

GpuLink g_link = GpuLink::kAutomatic;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Ranks share the GPUs where there are too few.
GpuOptions options_of(int rank, int num_ranks) {
  const int devices = c10::cuda::device_count();
  return {.link = g_link, .device = rank % devices, .may_share = devices < num_ranks};
}

/// Micro-batches in bf16 whose gradients are 1, more of them than bf16 can count: steps that accumulate, with
/// an evaluation in between.
void check_count(Transport& transport, at::Device device, bool recorded) {
  constexpr int kMicroBatches = 602;
  const Schedule schedule = generate("dualpipe", {transport.num_ranks(), kMicroBatches});
  const auto on_cpu = models::counter(schedule.num_stages());
  const models::OnDevice model(*on_cpu, device, at::kBFloat16);
  PipelineOptions options = options_for(model);
  options.gradient_type = at::kFloat;
  if (recorded) options.recorder = make_cuda_recorder(device.index());
  Pipeline pipeline(
      schedule, transport, [&](int stage) { return runtime::make_stage(model.stage(stage)); },
      std::move(options));
  Batch batch = batch_of(model, pipeline, 0);
  batch.weights.assign(kMicroBatches, 1);
  bool good = true;
  for (int step = 1; step <= 3; ++step) {
    pipeline.step(batch);
    for (const at::Tensor& parameter : pipeline.parameters())
      good &= parameter.grad().scalar_type() == at::kFloat &&
              parameter.grad().eq(step * kMicroBatches).all().item<bool>();
    if (step == 1) pipeline.evaluate(batch);
  }
  report(good, transport.rank(),
         "gradients of " + std::to_string(kMicroBatches) + " micro-batches in bf16 are counted in fp32" +
             (recorded ? ", recorded" : ""));
}

/// Calls `each` for every generator that makes a schedule of this many ranks.
template <class Each>
void for_generators(int ranks, Each each) {
  for (const Generator* generator : all_generators()) {
    for (const int micro_batches : {4, 6, 8, 10, 12}) {
      const Size size{ranks, micro_batches, generator->stages_per_rank};
      if (!generator->fits(size)) continue;
      each(generate(*generator, size));
      break;
    }
  }
}

/// Each pipeline gets a transport, and each transport keys of its own.
void check_all(const OpenStore& open_store, int rank, int num_ranks) {
  const GpuOptions options = options_of(rank, num_ranks);
  int number = 0;
  const auto with_transport = [&](auto body) {
    const std::string prefix = "pipeline" + std::to_string(number++);
    const auto transport =
        make_gpu_transport([&] { return c10::make_intrusive<c10d::PrefixStore>(prefix, open_store()); }, rank,
                           num_ranks, options);
    body(*transport, at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(options.device)));
  };
  for_generators(num_ranks, [&](const Schedule& schedule) {
    for (const Case& one : kCases) {
      if (!is_tried(one, schedule)) continue;
      Tensors gradients;
      with_transport(
          [&](Transport& transport, at::Device on) { gradients = check(transport, on, schedule, one); });
      for (const Way& way : kOthers)
        if (way.streams > 0 || &one == &kCases[2])
          with_transport([&](Transport& transport, at::Device on) {
            check(transport, on, schedule, one, way, &gradients);
          });
    }
  });
  for (const bool recorded : {false, true})
    with_transport([&](Transport& transport, at::Device on) { check_count(transport, on, recorded); });
}

std::size_t free_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  cudaMemGetInfo(&free, &total);
  return free;
}

/// What is left on the device by pipelines that are gone: of tensors, and of everything (NCCL's buffers).
void check_leaks(const Launch& launch, const OpenStore& open_store) {
  const GpuOptions options = options_of(launch.rank, launch.num_ranks);
  const auto device = static_cast<c10::DeviceIndex>(options.device);
  const Schedule schedule = generate("1f1b", {launch.num_ranks, 4});
  std::vector<std::size_t> free;
  std::vector<std::int64_t> tensors;
  for (int round = 0; round < 6; ++round) {
    const std::string prefix = "leaks" + std::to_string(round);
    const auto transport =
        make_gpu_transport([&] { return c10::make_intrusive<c10d::PrefixStore>(prefix, open_store()); },
                           launch.rank, launch.num_ranks, options);
    check(*transport, at::Device(at::kCUDA, device), schedule, kCases[2]);
    c10::cuda::CUDACachingAllocator::emptyCache();
    free.push_back(free_bytes() >> 20);
    tensors.push_back(c10::cuda::CUDACachingAllocator::getDeviceStats(device).allocated_bytes[0].current);
  }
  const std::lock_guard lock(g_mutex);
  ++g_checked;
  const bool good = tensors.back() == tensors[1] && free.back() + 8 >= free[2];
  if (!good) ++g_failed;
  std::printf("%s leaks, rank %d: bytes of tensors %lld then %lld; MiB free %zu then %zu\n",
              good ? "ok    " : "FAILED", launch.rank, static_cast<long long>(tensors[1]),
              static_cast<long long>(tensors.back()), free[2], free.back());
}

/// Rank 1's, of a step in which it ends badly before it is replayed.
void spoil(const std::string& how, Batch& batch) {
  if (how == "killed-recorded") kill(getpid(), SIGKILL);
  if (how == "killed-replaying")
    return std::thread([] {
             std::this_thread::sleep_for(std::chrono::seconds(1));
             kill(getpid(), SIGKILL);
           })
        .detach();
  if (how == "absent") return std::this_thread::sleep_for(std::chrono::seconds(12));
  for (Tensors& targets : batch.targets)
    for (at::Tensor& target : targets) target = at::cat({target, target});
}

/// One forward of rank 1 ends badly in the third step, or a recorded step does. What the other ranks see, and
/// how soon.
void end_badly(const std::string& how, const Launch& launch, const OpenStore& open_store) {
  GpuOptions gpu = options_of(launch.rank, launch.num_ranks);
  gpu.heartbeat_timeout = std::chrono::seconds(3);
  const auto device = static_cast<c10::DeviceIndex>(gpu.device);
  const bool replaying = how == "killed-replaying";
  const bool records = replaying || how == "misfit" || how == "killed-recorded" || how == "absent";
  const auto recorder = records ? make_cuda_recorder(device) : nullptr;  // outlives the transport, as it may
  const Schedule schedule = generate(replaying ? "dualpipe" : "1f1b", {launch.num_ranks, 4});
  const auto on_cpu = make_model(kCases[2], schedule.num_stages());
  const models::OnDevice model(*on_cpu, at::Device(at::kCUDA, device), at::kFloat);
  const auto transport = make_gpu_transport(open_store, launch.rank, launch.num_ranks, gpu);
  PipelineOptions options = options_for(model);
  options.timeout = std::chrono::seconds(how == "stuck" || how == "absent" ? 4 : 60);
  options.recorder = recorder;
  int forwards = 0;
  Pipeline pipeline(
      schedule, *transport,
      [&](int number) {
        const auto inner = model.stage(number);
        return runtime::make_stage(
            [&, inner](const Tensors& inputs) {
              if (launch.rank == 1 && ++forwards == 10) {
                if (how == "killed") kill(getpid(), SIGKILL);
                if (how == "throws") throw Error("the test's stage throws");
                if (how == "stuck") std::this_thread::sleep_for(std::chrono::seconds(12));
              }
              return inner->forward(inputs);
            },
            inner);
      },
      options);
  const int steps = replaying ? 1'000'000 : 20;
  Clock::time_point last = Clock::now();  // when the step began that this rank asked for last
  Clock::time_point begun = last;
  try {
    for (int step = 0; step < steps; ++step) {
      last = std::exchange(begun, Clock::now());
      Batch batch = batch_of(model, pipeline, step);
      if (records && launch.rank == 1 && step == 5) spoil(how, batch);
      pipeline.step(batch);
      cudaDeviceSynchronize();
    }
    std::printf("FAILED %s, rank %d: noticed nothing\n", how.c_str(), launch.rank);
    ++g_failed;
  } catch (const Error& error) {
    const double seconds = seconds_since(last);
    ++g_checked;
    bool good = seconds < (launch.rank == 1 ? 14 : 9);
    if (how == "absent") good &= std::string(error.what()).find("recorded step") != std::string::npos;
    if (!good) ++g_failed;
    std::printf("%s %s, rank %d after %.2f s: %s\n", good ? "ok    " : "FAILED", how.c_str(), launch.rank,
                seconds, error.what());
  }
}

/// Must be told, and soon: processes that may not share a GPU, and threads anyway.
void share_a_gpu(const Launch& launch, const OpenStore& open_store) {
  const auto try_to = [](const OpenStore& open, int rank, int num_ranks, bool may_share) {
    std::string said = "nothing";
    try {
      make_gpu_transport(open, rank, num_ranks, {.link = g_link, .may_share = may_share});
    } catch (const TransportError& error) {
      said = error.what();
    }
    report(said.find("on the same GPU") != std::string::npos, rank, "ranks that share a GPU: " + said);
  };
  try_to(open_store, launch.rank, launch.num_ranks, false);
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::thread other([&] { try_to([&] { return store; }, 1, 2, true); });
  try_to([&] { return store; }, 0, 2, true);
  other.join();
}

void run_processes(const std::string& mode) {
  const Launch launch = read_launch();
  const OpenStore open = [&] { return open_store(launch, std::chrono::seconds(60)); };
  const auto hold = open();  // the store stays while this process does
  const auto start = Clock::now();
  if (mode == "shared") return share_a_gpu(launch, open);
  if (mode != "processes") return end_badly(mode, launch, open);
  check_all(open, launch.rank, launch.num_ranks);
  check_leaks(launch, open);
  if (launch.rank == 0) std::printf("%d ranks: %.1f s\n", launch.num_ranks, seconds_since(start));
}

void run_threads(int ranks) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        check_all([&] { return store; }, rank, ranks);
      } catch (const std::exception& error) {
        const std::lock_guard lock(g_mutex);
        ++g_failed;
        std::printf("FAILED rank %d: %s\n", rank, error.what());
      }
    });
  for (std::thread& thread : threads) thread.join();
}

void run_shared(int ranks) {
  const int devices = c10::cuda::device_count();
  for_generators(ranks, [&](const Schedule& schedule) {
    for (const Case& one : kCases) {
      if (!is_tried(one, schedule)) continue;
      std::vector<Tensors> gradients(ranks);
      for (const Way& way : {kPlain, kOthers[0]}) {
        run_local(ranks, [&](Transport& transport) {
          const auto device = static_cast<c10::DeviceIndex>(transport.rank() % devices);
          c10::cuda::set_device(device);
          Tensors& mine = gradients[transport.rank()];
          mine = check(transport, at::Device(at::kCUDA, device), schedule, one, way,
                       way.streams == 1 ? nullptr : &mine);
        });
      }
    }
  });
  run_local(ranks, [&](Transport& transport) {
    const auto device = static_cast<c10::DeviceIndex>(transport.rank() % devices);
    c10::cuda::set_device(device);
    check_count(transport, at::Device(at::kCUDA, device), false);
  });
}

/// Times by the device's clock: as many bars as actions, one after the other, all within the step's time.
void check_timeline(Transport& transport, at::Device device) {
  const Schedule schedule = generate("dualpipe", {2, 4});
  const auto on_cpu = make_model(kCases[2], schedule.num_stages());
  const models::OnDevice model(*on_cpu, device, at::kFloat);
  Pipeline pipeline(
      schedule, transport, [&](int stage) { return runtime::make_stage(model.stage(stage)); },
      options_for(model));
  const CostModel costs = pipeline.profile(batch_of(model, pipeline, 0), 2);
  bool good = true;
  for (const StageCost& stage : costs.stages) good &= stage.f > 0 && stage.i > 0 && stage.w > 0;
  pipeline.record_timeline(true);
  const auto start = Clock::now();
  pipeline.step(batch_of(model, pipeline, 0));
  const Timeline timeline = pipeline.timeline();
  const double ns = 1e9 * seconds_since(start);
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    const std::vector<Bar>& bars = timeline.ranks[rank].bars;
    good &= bars.size() == schedule.actions[rank].size();
    Time end = 0;
    for (const Bar& bar : bars) {
      good &= end <= bar.begin && bar.begin < bar.end;
      end = bar.end;
    }
    good &= static_cast<double>(end) < ns;
  }
  report(good, transport.rank(), "timeline and profile by the device's clock");
}

void run_small() {
  run_local(2, [&](Transport& transport) {
    c10::cuda::set_device(0);
    check_timeline(transport, at::Device(at::kCUDA, 0));
  });
  for (const Case& one : {kCases[1], kCases[3]})
    run_local(2, [&](Transport& transport) {
      c10::cuda::set_device(0);
      check(transport, at::Device(at::kCUDA, 0), generate("dualpipe", {2, 4}), one);
    });
}

}  // namespace
}  // namespace counterflow::runtime

int main(int argc, char** argv) {
  using namespace counterflow::runtime;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what came before a hang is seen
  const std::string mode = argc > 1 ? argv[1] : "processes";
  const std::string link = argc > 2 ? argv[2] : "automatic";
  const int ranks = argc > 3 ? std::atoi(argv[3]) : 2;
  if (link == "nccl") g_link = GpuLink::kNccl;
  if (link == "copy") g_link = GpuLink::kCopyEngines;
  try {
    if (mode == "threads")
      run_threads(ranks);
    else if (mode == "local")
      run_shared(ranks);
    else if (mode == "small")
      run_small();
    else
      run_processes(mode);
  } catch (const std::exception& error) {
    std::printf("FAILED %s: %s\n", mode.c_str(), error.what());
    ++g_failed;
  }
  std::printf("%s, %s: %d checked, %d failed\n", mode.c_str(), link.c_str(), g_checked, g_failed);
  return g_failed == 0 && g_checked > 0 ? 0 : 1;
}
