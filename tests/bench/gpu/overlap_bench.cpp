// How much communication inside a stage hides behind compute when a forward and a backward overlap.
//
//   gpu_overlap [LAYERS MICRO_BATCHES STEPS VOLUME CTAS SPARED]     two processes, a GPU each (launch.h)
//
// The stage is made of pieces as an MoE layer has them: attention, dispatch, experts, combine. Dispatch and
// combine exchange all tokens with the other GPU over NCCL, VOLUME times: as many experts as a token goes to.
// NCCL has CTAS thread blocks for that, and in pairs matrix products leave SPARED multiprocessors alone:
// without that an exchange starts when the product that runs is done, for it keeps them all. One stage on
// each GPU, so that nothing but these transfers goes between them. Prints the median time of a step without
// the exchanges, of one pass after the other, and of overlapped pairs, and how far a gradient of pairs is
// from that of passes one after the other (the attention's backward adds up in no fixed order). With a folder
// in the environment's TRACE, one more step in pairs goes there as a trace of PyTorch's profiler.
#include <ATen/Context.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <string>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "counterflow/format.h"
#include "counterflow/runtime/gpu.h"
#include "counterflow/runtime/launch.h"
#include "counterflow/runtime/pieces.h"
#include "counterflow/runtime/pipeline.h"

namespace counterflow::runtime {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kHidden = 4096;
constexpr std::int64_t kTokens = 4096;
constexpr std::int64_t kHeads = 32;

/// The way to the other GPU. Without a communicator tokens stay where they are.
struct Peer {
  ncclComm_t comm = nullptr;
  int rank = 0;
  int volume = 1;

  at::Tensor exchange(const at::Tensor& mine) const {
    if (comm == nullptr) return mine;
    at::Tensor theirs = at::empty_like(mine);
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream().stream();
    ncclGroupStart();
    for (int i = 0; i < volume; ++i) {
      ncclSend(mine.const_data_ptr(), mine.nbytes(), ncclInt8, 1 - rank, comm, stream);
      ncclRecv(theirs.mutable_data_ptr(), theirs.nbytes(), ncclInt8, 1 - rank, comm, stream);
    }
    if (ncclGroupEnd() != ncclSuccess) throw std::runtime_error("the exchange failed");
    return theirs;
  }
};

/// Every token goes to the other GPU; its gradient comes back from there.
struct Exchange : torch::autograd::Function<Exchange> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            std::int64_t peer) {
    context->saved_data["peer"] = peer;
    return reinterpret_cast<const Peer*>(peer)->exchange(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto* peer = reinterpret_cast<const Peer*>(context->saved_data["peer"].toInt());
    return {peer->exchange(gradients[0].contiguous()), {}};
  }
};

struct Layers : torch::nn::Module {
  Layers(int layers, at::TensorOptions options) {
    for (int layer = 0; layer < layers; ++layer) {
      const auto make = [&](const char* name, at::IntArrayRef sizes) {
        const double scale = 0.5 / std::sqrt(static_cast<double>(kHidden));
        return register_parameter(name + std::to_string(layer), at::randn(sizes, options) * scale);
      };
      qkv.push_back(make("qkv", {3 * kHidden, kHidden}));
      out.push_back(make("out", {kHidden, kHidden}));
      up.push_back(make("up", {4 * kHidden, kHidden}));
      down.push_back(make("down", {kHidden, 4 * kHidden}));
    }
  }
  std::vector<at::Tensor> qkv, out, up, down;
};

at::Tensor attention(const at::Tensor& x, const at::Tensor& qkv, const at::Tensor& out) {
  const std::int64_t b = x.size(0), s = x.size(1), h = x.size(2);
  const at::Tensor a = at::linear(at::layer_norm(x, {h}), qkv);
  const auto parts = a.view({b, s, 3, kHeads, h / kHeads}).permute({2, 0, 3, 1, 4}).unbind(0);
  const at::Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, 0.0, true);
  return x + at::linear(mixed.transpose(1, 2).reshape({b, s, h}), out);
}

/// Attention, dispatch, experts and combine of each layer. Tokens travel, and what they were goes along.
std::vector<Piece> pieces_of(const Layers& layers, const Peer& peer) {
  const auto exchange = [&peer](const Tensors& x) {
    return Tensors{Exchange::apply(x[0], reinterpret_cast<std::int64_t>(&peer))};
  };
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < layers.qkv.size(); ++i) {
    pieces.push_back({"attention", Lane::kCompute, [&layers, i](const Tensors& x) {
                        return Tensors{attention(x[0], layers.qkv[i], layers.out[i])};
                      }});
    pieces.push_back({"dispatch", Lane::kCommunication, exchange});
    pieces.push_back({"experts", Lane::kCompute, [&layers, i](const Tensors& x) {
                        const at::Tensor normed = at::layer_norm(x[0], {kHidden});
                        return Tensors{
                            x[0] + at::linear(at::gelu(at::linear(normed, layers.up[i])), layers.down[i])};
                      }});
    pieces.push_back({"combine", Lane::kCommunication, exchange});
  }
  return pieces;
}

/// One rank, one stage: every forward beside the backward of the micro-batch before, in pairs or one after
/// the other.
Schedule schedule_of(int micro_batches, bool in_pairs) {
  std::string text = "0F0";
  for (int m = 1; m < micro_batches; ++m) {
    const std::string f = "0F" + std::to_string(m);
    const std::string b = "0B" + std::to_string(m - 1);
    text += in_pairs ? ",(" + f + ";" + b + ")OVERLAP_F_B" : "," + f + "," + b;
  }
  return parse(text + ",0B" + std::to_string(micro_batches - 1) + "\n");
}

/// One step of a pipeline that has run before.
void trace(Pipeline& pipeline, const Batch& batch, const std::string& path) {
  namespace profiler = torch::autograd::profiler;
  const std::set<profiler::ActivityType> activities{profiler::ActivityType::CPU,
                                                    profiler::ActivityType::CUDA};
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  pipeline.step(batch);
  cudaDeviceSynchronize();
  profiler::disableProfiler()->save(path);
}

double measure(Transport& transport, const Layers& layers, const Peer& peer, int micro_batches, bool in_pairs,
               int steps, at::TensorOptions options, at::Tensor* gradient) {
  PipelineOptions with;
  with.loss = [](const Tensors& outputs, const Tensors& targets) {
    return at::mse_loss(outputs[0], targets[0]);
  };
  const std::shared_ptr<torch::nn::Module> module(const_cast<Layers*>(&layers), [](torch::nn::Module*) {});
  Pipeline pipeline(
      schedule_of(micro_batches, in_pairs), transport,
      [&](int) { return make_stage(pieces_of(layers, peer), module); }, with);
  Batch batch;
  for (int m = 0; m < micro_batches; ++m) {
    at::manual_seed(7 + m);
    batch.inputs.push_back({at::randn({1, kTokens, kHidden}, options)});
    batch.targets.push_back({at::randn({1, kTokens, kHidden}, options)});
  }
  std::vector<double> times;
  for (int step = 0; step < steps + 2; ++step) {
    for (const at::Tensor& parameter : pipeline.parameters()) parameter.mutable_grad() = at::Tensor();
    cudaDeviceSynchronize();
    const auto start = Clock::now();
    pipeline.step(batch);
    cudaDeviceSynchronize();
    if (step >= 2) times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  if (const char* folder = std::getenv("TRACE"); folder != nullptr && in_pairs)
    trace(pipeline, batch, std::string(folder) + "/overlap." + std::to_string(peer.rank) + ".json");
  *gradient = layers.up[0].grad().clone();
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void run(int argc, char** argv) {
  const auto argument = [&](int index, int otherwise) {
    return argc > index ? std::atoi(argv[index]) : otherwise;
  };
  const int num_layers = argument(1, 4);
  const int micro_batches = argument(2, 8);
  const int steps = argument(3, 6);
  const Launch launch = read_launch();
  if (launch.num_ranks != 2) throw std::runtime_error("two ranks are needed");
  const auto device = static_cast<c10::DeviceIndex>(launch.local_rank);
  c10::cuda::set_device(device);
  const auto store = open_store(launch, std::chrono::seconds(60));
  const auto options = at::TensorOptions(at::kBFloat16).device(at::Device(at::kCUDA, device));
  at::manual_seed(3);
  Layers layers(num_layers, options);

  Peer peer{nullptr, launch.rank, argument(4, 4)};
  ncclUniqueId id{};
  if (launch.rank == 0) {
    ncclGetUniqueId(&id);
    store->set("id", std::string(id.internal, sizeof id.internal));
  }
  const auto bytes = store->get("id");
  std::copy(bytes.begin(), bytes.end(), id.internal);
  ncclComm_t comm = nullptr;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.maxCTAs = argument(5, 16);
  const int spared = argument(6, 0);
  if (ncclCommInitRankConfig(&comm, 2, id, launch.rank, &config) != ncclSuccess)
    throw std::runtime_error("no communicator");

  int transports = 0;
  const auto time = [&](ncclComm_t with, bool in_pairs, at::Tensor* gradient) {
    peer.comm = with;
    const std::string prefix = std::to_string(launch.rank) + "/" + std::to_string(transports++);
    const auto transport =
        make_gpu_transport([&] { return c10::make_intrusive<c10d::PrefixStore>(prefix, open_store(launch)); },
                           0, 1, {.link = GpuLink::kNccl, .device = device});
    return measure(*transport, layers, peer, micro_batches, in_pairs, steps, options, gradient);
  };
  at::Tensor gradient, in_turn, in_pairs;
  const double compute = time(nullptr, false, &gradient);
  const double turn = time(comm, false, &in_turn);
  if (spared > 0) at::globalContext()._setSMCarveout_EXPERIMENTAL(spared);
  const double pairs = time(comm, true, &in_pairs);
  std::printf(
      "rank %d, %d layers, %d micro-batches, volume %d, %d CTAs, %d spared: without exchanges %.1f ms, in "
      "turn %.1f ms, in pairs %.1f ms: %.0f %% of the exchanges hidden; gradients differ by %.1e\n",
      launch.rank, num_layers, micro_batches, peer.volume, config.maxCTAs, spared, compute, turn, pairs,
      100 * (1 - (pairs - compute) / (turn - compute)),
      ((in_pairs - in_turn).norm() / in_turn.norm()).item<double>());
  ncclCommDestroy(comm);
}

}  // namespace
}  // namespace counterflow::runtime

int main(int argc, char** argv) {
  try {
    counterflow::runtime::run(argc, argv);
  } catch (const std::exception& error) {
    std::printf("failed: %s\n", error.what());
    return 1;
  }
  return 0;
}
