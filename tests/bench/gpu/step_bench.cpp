// How long a training step of transformer layers takes on GPUs, by schedule, as it is and recorded.
//
//   gpu_step CASE STEPS CTAS SCHEDULE[+nccl][+recorded][+fp32][+fused][+streams=N]...     a process a rank
//
// CASE is tiny, large, small, or host, which has next to nothing to compute; the schedule "none" is one GPU
// without a pipeline, whose time is halved by the number of ranks. Transfers go by the copy engines, or over
// NCCL; gradients are added up in the weights' type, or in fp32. Prints a line a schedule: the median and the
// spread of the steps in ms, how long the host is busy with one, the memory at peak, and the largest relative
// error of a gradient against "none" where that came first. With a folder in the environment's TRACE, one
// more step of each goes there as a trace of PyTorch's profiler. In place of a schedule "predict" compares
// profiled costs with steps, and "costs" writes those of attention and MLP blocks to the file that COSTS
// names. GRADIENTS names a file for the gradients of "none", which peers.py compares the peers' with;
// RECORDING one for what the ranks did in a step of "predict". Ranks share the GPUs where there are too few,
// which tells whether it works, not how fast.
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>
#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/recording.h"
#include "counterflow/runtime/cuda_recorder.h"
#include "counterflow/runtime/gpu.h"
#include "counterflow/runtime/launch.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pipeline.h"
#include "counterflow/runtime/safetensors.h"
#include "counterflow/simulate.h"
#include "counterflow/timeline.h"

namespace counterflow::runtime {
namespace {

using Clock = std::chrono::steady_clock;

struct Case {
  std::int64_t hidden, sequence, batch;
  int layers, heads, micro_batches;
  at::ScalarType type;
};

const std::map<std::string, Case> kCases{{"tiny", {1024, 512, 1, 8, 16, 16, at::kBFloat16}},
                                         {"large", {4096, 4096, 1, 8, 32, 16, at::kBFloat16}},
                                         {"small", {512, 256, 3, 4, 8, 20, at::kFloat}},
                                         {"host", {64, 16, 1, 4, 2, 16, at::kFloat}}};

/// A layer is two blocks: attention, and an MLP of four times the width, each behind a norm.
struct Block {
  at::Tensor norm, into, out;
  std::int64_t heads;  ///< zero in an MLP

  at::Tensor operator()(const at::Tensor& x) const {
    const std::int64_t b = x.size(0), s = x.size(1), h = x.size(2);
    const at::Tensor wide = at::linear(at::layer_norm(x, {h}, norm), into);
    if (heads == 0) return x + at::linear(at::gelu(wide), out);
    const auto parts = wide.view({b, s, 3, heads, h / heads}).permute({2, 0, 3, 1, 4}).unbind(0);
    const at::Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, 0.0, true);
    return x + at::linear(mixed.transpose(1, 2).reshape({b, s, h}), out);
  }
};

struct Blocks : torch::nn::Module {
  /// Blocks first … last − 1 of the model, the same whoever makes them.
  Blocks(const Case& c, int first, int last, at::TensorOptions options) {
    const std::int64_t h = c.hidden;
    for (int layer = first / 2; layer < (last + 1) / 2; ++layer) {
      // A generator of its own, as torch.manual_seed() sets Python's: the pipeline seeds a stage's others.
      at::Generator generator = at::cuda::detail::createCUDAGenerator(options.device().index());
      generator.set_current_seed(1000 + layer);
      const auto make = [&](bool is_here, const char* name, at::IntArrayRef sizes) {
        const double scale = sizes.size() == 1 ? 1 : 0.5 / std::sqrt(static_cast<double>(h));
        at::Tensor values =
            at::randn(sizes, generator, at::TensorOptions(at::kFloat).device(options.device())) * scale;
        if (is_here)
          values = register_parameter(name + std::to_string(layer),
                                      values.to(c10::typeMetaToScalarType(options.dtype())));
        return values;
      };
      const bool attends = 2 * layer >= first;
      const Block attention{make(attends, "norm1_", {h}), make(attends, "qkv_", {3 * h, h}),
                            make(attends, "out_", {h, h}), c.heads};
      const bool thinks = 2 * layer + 1 < last;
      const Block mlp{make(thinks, "norm2_", {h}), make(thinks, "up_", {4 * h, h}),
                      make(thinks, "down_", {h, 4 * h}), 0};
      if (attends) blocks.push_back(attention);
      if (thinks) blocks.push_back(mlp);
    }
  }
  at::Tensor forward(at::Tensor x) {
    for (const Block& block : blocks) x = block(x);
    return x;
  }
  std::vector<Block> blocks;
};

double milliseconds(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

/// Of steps, in ms, sorted: until the device has done them, and until the host is back from asking for them.
struct Times {
  std::vector<double> whole;
  std::vector<double> host;

  double median() const { return whole[whole.size() / 2]; }
};

struct Bench {
  Launch launch;
  std::function<c10::intrusive_ptr<c10d::Store>()> open_store;
  std::string case_name;
  Case c;
  int steps;
  int ctas;
  at::TensorOptions options;
  std::vector<int> cut{};                         ///< blocks of each stage of the schedule at hand
  std::map<std::string, at::Tensor> gradients{};  ///< of the run without a pipeline
  int runs = 0;

  Batch batch() const {
    Batch all;
    for (int m = 0; m < c.micro_batches; ++m) {
      at::manual_seed(5000 + m);
      all.inputs.push_back({at::randn({c.batch, c.sequence, c.hidden}, options)});
      all.targets.push_back({at::randn({c.batch, c.sequence, c.hidden}, options)});
    }
    return all;
  }

  /// The first steps do not count: recorded ones are tried out in them.
  Times measure(Pipeline& pipeline, const Batch& all, bool recorded = false) const {
    const int warm_up = recorded ? 9 : 4;
    Times times;
    for (int step = 0; step < steps + warm_up; ++step) {
      for (const at::Tensor& parameter : pipeline.parameters()) parameter.mutable_grad() = at::Tensor();
      cudaDeviceSynchronize();
      const auto start = Clock::now();
      pipeline.step(all);
      const auto returned = Clock::now();
      cudaDeviceSynchronize();
      if (step < warm_up) continue;
      times.host.push_back(milliseconds(returned - start));
      times.whole.push_back(milliseconds(Clock::now() - start));
    }
    std::sort(times.host.begin(), times.host.end());
    std::sort(times.whole.begin(), times.whole.end());
    return times;
  }

  void report(const std::string& name, const Times& times, double divided_by, double error) {
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(options.device().index());
    std::printf(
        "%s %-34s rank %d  median %8.2f ms  (%.2f … %.2f)  host %7.2f ms  peak %6.2f GiB  error %.1e\n",
        case_name.c_str(), name.c_str(), launch.rank, times.median() / divided_by,
        times.whole.front() / divided_by, times.whole.back() / divided_by, times.host[times.host.size() / 2],
        static_cast<double>(stats.allocated_bytes[0].peak) / (1 << 30), error);
    std::fflush(stdout);
  }

  /// One step of a pipeline that has run before, as a trace in `path`.
  static void trace(Pipeline& pipeline, const Batch& all, const std::string& path) {
    namespace profiler = torch::autograd::profiler;
    const std::set<profiler::ActivityType> activities{profiler::ActivityType::CPU,
                                                      profiler::ActivityType::CUDA};
    const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
    for (const at::Tensor& parameter : pipeline.parameters()) parameter.mutable_grad() = at::Tensor();
    profiler::prepareProfiler(config, activities);
    profiler::enableProfiler(config, activities);
    pipeline.step(all);
    cudaDeviceSynchronize();
    profiler::disableProfiler()->save(path);
  }

  Times run(const std::string& name, const Schedule& schedule, Transport& transport, bool recorded,
            double* error) {
    PipelineOptions pipeline_options;
    pipeline_options.streams = 1;
    if (name.find("+fp32") != std::string::npos) pipeline_options.gradient_type = at::kFloat;
    pipeline_options.fuse_gradient_sums = name.find("+fused") != std::string::npos;
    if (const std::size_t at = name.find("+streams="); at != std::string::npos)
      pipeline_options.streams = std::stoi(name.substr(at + 9));
    if (recorded) pipeline_options.recorder = make_cuda_recorder(options.device().index());
    c10::cuda::CUDACachingAllocator::emptyCache();
    c10::cuda::CUDACachingAllocator::resetPeakStats(options.device().index());
    const auto made = make_pipeline(schedule, transport, pipeline_options);
    Pipeline& pipeline = *made;
    const Batch all = batch();
    Times times = measure(pipeline, all, recorded);
    if (const char* folder = std::getenv("TRACE")) {
      std::string file = case_name + "." + name + "." + std::to_string(launch.rank) + ".json";
      for (char& letter : file)
        if (std::isalnum(static_cast<unsigned char>(letter)) == 0 && letter != '.') letter = '-';
      trace(pipeline, all, std::string(folder) + "/" + file);
    }
    if (const char* path = std::getenv("GRADIENTS"); path && schedule.num_ranks() == 1 && launch.rank == 0) {
      std::vector<NamedTensor> whole = pipeline.stage(0).parameters();
      for (NamedTensor& parameter : whole) parameter.tensor = parameter.tensor.grad();
      write_safetensors(path, whole);
    }
    for (const int stage : pipeline.stages()) {
      for (const NamedTensor& parameter : pipeline.stage(stage).parameters()) {
        const at::Tensor& found = parameter.tensor.grad();
        if (schedule.num_ranks() == 1) {
          gradients[parameter.name] = found.cpu();
          continue;
        }
        const auto known = gradients.find(parameter.name);
        if (known == gradients.end()) continue;
        const at::Tensor expected = known->second.to(options.device()).to(at::kFloat);
        const double e = ((found.to(at::kFloat) - expected).norm() / expected.norm()).item<double>();
        *error = e <= *error ? *error : e;
      }
    }
    return times;
  }

  /// A file's, or a generator's, with stages a rank after a colon: "interleaved-1f1b:4". After an @ each
  /// stage's number of blocks: "./best.csv@1,8,0,7".
  Schedule make_schedule(const std::string& name) {
    const std::size_t at = name.find('@');
    cut.clear();
    if (at != std::string::npos) {
      std::stringstream numbers(name.substr(at + 1));
      for (std::string one; std::getline(numbers, one, ',');) cut.push_back(std::stoi(one));
      return make_whole(name.substr(0, at));
    }
    Schedule schedule = make_whole(name);
    const int blocks = 2 * c.layers;
    for (int stage = 0; stage < schedule.num_stages(); ++stage)
      cut.push_back(blocks * (stage + 1) / schedule.num_stages() - blocks * stage / schedule.num_stages());
    return schedule;
  }

  Schedule make_whole(const std::string& name) const {
    if (name.find('/') != std::string::npos) return read_file(name);
    Size size{launch.num_ranks, c.micro_batches};
    const std::size_t colon = name.find(':');
    if (colon != std::string::npos) size.stages_per_rank = std::atoi(name.c_str() + colon + 1);
    return generate(name.substr(0, colon), size);
  }

  std::unique_ptr<Transport> open_transport(bool nccl = false) {
    const auto prefix = "run" + std::to_string(runs++);
    return make_gpu_transport([&] { return c10::make_intrusive<c10d::PrefixStore>(prefix, open_store()); },
                              launch.rank, launch.num_ranks,
                              {.link = nccl ? GpuLink::kNccl : GpuLink::kAutomatic,
                               .device = options.device().index(),
                               .max_ctas = ctas,
                               .may_share = c10::cuda::device_count() < launch.num_ranks});
  }

  std::unique_ptr<Pipeline> make_pipeline(const Schedule& schedule, Transport& transport,
                                          PipelineOptions with = {}) const {
    with.loss = [](const Tensors& outputs, const Tensors& targets) {
      return at::mse_loss(outputs[0], targets[0]);
    };
    return std::make_unique<Pipeline>(
        schedule, transport,
        [this](int stage) {
          const int first = std::accumulate(cut.begin(), cut.begin() + stage, 0);
          return make_stage(std::make_shared<Blocks>(c, first, first + cut[stage], options));
        },
        std::move(with));
  }

  /// What the runtime makes of pairs of stages that do not overlap: the forward, then the backward.
  static Schedule in_turn(Schedule schedule) {
    for (auto& actions : schedule.actions) {
      std::vector<Action> all;
      for (const Action& action : actions)
        for (const Pass& pass : action.passes()) all.emplace_back(pass);
      actions = std::move(all);
    }
    return schedule;
  }

  /// The costs of a stage, shared out over several.
  static CostModel divide(const CostModel& costs, int num_stages) {
    CostModel divided = costs;
    const int each = num_stages / static_cast<int>(costs.stages.size());
    divided.stages.clear();
    for (int stage = 0; stage < num_stages; ++stage) {
      StageCost cost = costs.stages[stage / each];
      cost.f /= each;
      cost.i /= each;
      cost.w /= each;
      divided.stages.push_back(cost);
    }
    return divided;
  }

  /// The median time of a message that was waited for, in µs.
  static Time transfer_time(const Timeline& timeline) {
    std::vector<Time> times;
    for (const LinkTimeline& link : timeline.links)
      for (const Transfer& transfer : link.transfers)
        if (transfer.end > transfer.begin) times.push_back((transfer.end - transfer.begin) / 1000);
    if (times.empty()) return 0;
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  /// From the first action's begin to the last one's end, of a step, in ms.
  static double span(Pipeline& pipeline, const Batch& all) {
    for (const at::Tensor& parameter : pipeline.parameters()) parameter.mutable_grad() = at::Tensor();
    pipeline.step(all);
    Time end = 0;
    const Timeline timeline = pipeline.timeline();
    for (const RankTimeline& rank : timeline.ranks) end = std::max(end, rank.bars.back().end);
    return static_cast<double>(end) * 1e-6;
  }

  void say(const char* format, ...) const __attribute__((format(printf, 2, 3))) {
    if (launch.rank != 0) return;
    va_list arguments;
    va_start(arguments, format);
    std::vprintf(format, arguments);
    va_end(arguments);
    std::fflush(stdout);
  }

  CostModel profile(Pipeline& pipeline, const Batch& all) const {
    CostModel costs = pipeline.profile(all, 3);
    pipeline.record_timeline(true);
    pipeline.step(all);
    costs.p2p = transfer_time(pipeline.timeline());
    say("%s profile: p2p %lld us", case_name.c_str(), static_cast<long long>(costs.p2p));
    for (const StageCost& stage : costs.stages)
      say("; f %lld i %lld w %lld", static_cast<long long>(stage.f), static_cast<long long>(stage.i),
          static_cast<long long>(stage.w));
    say("\n");
    return costs;
  }

  /// A cost file of the model's blocks as layers, for `counterflow search`.
  void write_costs(const char* path) {
    const std::string whole = "interleaved-1f1b:" + std::to_string(2 * c.layers / launch.num_ranks);
    const auto transport = open_transport();
    const Schedule schedule = make_schedule(whole);
    const auto pipeline = make_pipeline(schedule, *transport);
    const Batch all = batch();
    pipeline->step(all);
    std::string text = format_cost_model(profile(*pipeline, all), "us");
    text.replace(text.find("\"stages\""), 8, "\"layers\"");
    if (launch.rank == 0) write_file(path, text);
  }

  void predict() {
    std::optional<CostModel> costs;
    const Batch all = batch();
    for (const char* name : {"1f1b", "zbv", "dualpipe-v", "dualpipe"}) {
      const auto transport = open_transport();
      const Schedule schedule = make_schedule(name);
      const auto pipeline = make_pipeline(schedule, *transport);
      const Times times = measure(*pipeline, all);
      if (!costs) costs = profile(*pipeline, all);
      pipeline->record_timeline(true);
      std::vector<double> spans;
      for (int step = 0; step < 3; ++step) spans.push_back(span(*pipeline, all));
      if (const char* path = std::getenv("RECORDING")) {
        const Timeline timeline = pipeline->timeline();
        if (launch.rank == 0)
          write_file(std::string(path) + "." + name + ".json", format_recording(timeline));
      }
      std::sort(spans.begin(), spans.end());
      const Simulation simulated = simulate(in_turn(schedule), divide(*costs, schedule.num_stages()));
      const double predicted = static_cast<double>(simulated.makespan) * 1e-3;
      say("%s predict %-12s %8.2f ms, its actions take %8.2f ms (%+.1f %%), the whole step %8.2f ms\n",
          case_name.c_str(), name, predicted, spans[1], 100 * (predicted / spans[1] - 1), times.median());
    }
  }

  void run(std::string name) {
    const bool recorded = name.find("+recorded") != std::string::npos;
    const bool nccl = name.find("+nccl") != std::string::npos;
    const std::string full = name;
    name = name.substr(0, name.find('+'));
    double error = 0;
    if (name == "predict") return predict();
    if (name == "costs") return write_costs(std::getenv("COSTS"));
    if (name == "none") {
      // A pipeline of one rank: recorded by hand, over a transport that carries nothing.
      const auto prefix = "alone" + std::to_string(runs++) + "/" + std::to_string(launch.rank);
      const auto transport =
          make_gpu_transport([&] { return c10::make_intrusive<c10d::PrefixStore>(prefix, open_store()); }, 0,
                             1, {.link = GpuLink::kNccl, .device = options.device().index()});
      cut = {2 * c.layers};
      const auto times = run(full, generate("1f1b", {1, c.micro_batches}), *transport, recorded, &error);
      return report(full, times, launch.num_ranks, 0);
    }
    const auto transport = open_transport(nccl);
    const Schedule schedule = make_schedule(name);
    const auto times = run(full, schedule, *transport, recorded, &error);
    report(full, times, 1, error);
  }
};

}  // namespace
}  // namespace counterflow::runtime

int main(int argc, char** argv) {
  using namespace counterflow::runtime;
  if (argc < 5) {
    std::fprintf(stderr, "gpu_step CASE STEPS CTAS SCHEDULE[+nccl][+recorded][+fp32]...\n");
    return 2;
  }
  try {
    const Launch launch = read_launch();
    const auto device = static_cast<c10::DeviceIndex>(launch.local_rank % c10::cuda::device_count());
    c10::cuda::set_device(device);
    const auto open = [&] { return open_store(launch, std::chrono::seconds(60)); };
    const auto hold = open();
    const Case& c = kCases.at(argv[1]);
    // The allocator knows the device from the first tensor on.
    at::randn({1}, at::TensorOptions(at::kFloat).device(at::Device(at::kCUDA, device)));
    Bench bench{launch,
                open,
                argv[1],
                c,
                std::atoi(argv[2]),
                std::atoi(argv[3]),
                at::TensorOptions(c.type).device(at::Device(at::kCUDA, device))};
    for (int i = 4; i < argc; ++i) bench.run(argv[i]);
  } catch (const std::exception& error) {
    std::printf("failed: %s\n", error.what());
    return 1;
  }
  return 0;
}
