// What the runtime costs beside the torch calls that it makes: one rank's step over a transport on which
// every message is there at once, so that nothing waits. `us/action` is the time of one action (F, B, I, W or
// an overlapped pair) with its messages.
//
//   nothing/   a stage that computes nothing and has a backward of its own: all of the time is ours
//   linear/    a small torch::nn::Linear, less the time of the same passes called by hand in the same order
#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros_like.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/modules/linear.h>

#include <chrono>
#include <map>
#include <string>
#include <utility>

#include "counterflow/generate.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pipeline.h"

namespace counterflow::runtime {
namespace {

constexpr int kWidth = 8;

/// One rank's end of a network without time. What it receives are ones.
class InstantTransport : public Transport {
 public:
  InstantTransport(int rank, int num_ranks) : rank_(rank), num_ranks_(num_ranks) {}

  int rank() const override { return rank_; }
  int num_ranks() const override { return num_ranks_; }
  void set_timeout(std::chrono::milliseconds) override {}
  void connect(const Wiring&) override {}
  void send(int, Message message) override { benchmark::DoNotOptimize(message); }
  void post_receive(int from, int buffer, const Pass& producer) override {
    posted_[{from, buffer}] = producer;
  }
  Message wait(int from, int buffer) override { return {posted_.at({from, buffer}), {data_}, {true}}; }
  void flush() override {}
  void all_reduce(int, Tensors&) override {}
  void broadcast(int, int, Tensors&) override {}
  std::vector<std::string> all_gather(std::string_view bytes) override {
    return std::vector<std::string>(num_ranks_, std::string(bytes));
  }
  void abort(std::string_view) noexcept override {}

 private:
  const int rank_;
  const int num_ranks_;
  const at::Tensor data_ = at::ones({1, kWidth});
  std::map<std::pair<int, int>, Pass> posted_;
};

class Nothing : public Stage {
 public:
  Tensors forward(const Tensors& inputs) override { return inputs; }
  std::unique_ptr<StageBackward> forward_with_backward(const Tensors& inputs, Tensors& outputs) override {
    outputs = inputs;
    return std::make_unique<Backward>();
  }
  std::unique_ptr<StageBackward> overlap(const Tensors& inputs, Tensors& outputs, StageBackward& backward,
                                         const Tensors& output_gradients, Tensors& input_gradients) override {
    input_gradients = backward.backward(output_gradients);
    return forward_with_backward(inputs, outputs);
  }

 private:
  struct Backward : StageBackward {
    Tensors backward(const Tensors& gradients) override { return gradients; }
    Tensors input_gradients(const Tensors& gradients) override { return gradients; }
    void weight_gradients() override {}
  };
};

/// A rank in the middle of eight, and its part of a step of 20 micro-batches.
struct Rank {
  explicit Rank(const std::string& generator, const StageFactory& make_stage)
      : schedule(generate(generator, {.ranks = 8, .micro_batches = 20})),
        transport(3, 8),
        pipeline(schedule, transport, make_stage,
                 {.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); }}) {
    batch.inputs.assign(20, {data});
    batch.targets.assign(20, {data});
    for (const at::Tensor& parameter : pipeline.parameters())
      parameter.mutable_grad() = at::zeros_like(parameter);
  }

  const std::vector<Action>& actions() const { return schedule.actions[3]; }

  const at::Tensor data = at::ones({1, kWidth});
  const Schedule schedule;
  InstantTransport transport;
  Pipeline pipeline;
  Batch batch;
};

using Clock = std::chrono::steady_clock;

template <class Function>
double seconds(Function function) {
  const auto begin = Clock::now();
  function();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void report(benchmark::State& state, double seconds, std::size_t num_actions) {
  state.counters["us/action"] =
      seconds * 1e6 / static_cast<double>(num_actions) / static_cast<double>(state.iterations());
}

void nothing(benchmark::State& state, const std::string& generator) {
  Rank rank(generator, [](int) { return std::make_shared<Nothing>(); });
  double total = 0;
  for (auto _ : state) total += seconds([&] { rank.pipeline.step(rank.batch); });
  report(state, total, rank.actions().size());
}

/// The same passes of a rank that holds neither the first nor the last stage, without a pipeline. Of one
/// linear layer torch can ask for the halves of a backward by themselves without doing anything twice.
void by_hand(const std::vector<Action>& actions, torch::nn::Linear& module, const at::Tensor& data) {
  std::map<std::pair<int, int>, std::pair<at::Tensor, at::Tensor>> visits;
  for (const Action& action : actions) {
    for (const Pass& pass : action.passes()) {
      auto& [input, output] = visits[{pass.stage, pass.micro_batch}];
      switch (pass.kind) {
        case PassKind::kForward:
          input = data.detach().set_requires_grad(true);
          output = module->forward(input);
          break;
        case PassKind::kBackward:
          torch::autograd::backward({output}, {data});
          visits.erase({pass.stage, pass.micro_batch});
          break;
        case PassKind::kInputGradient:
          benchmark::DoNotOptimize(torch::autograd::grad({output}, {input}, {data}, true));
          break;
        case PassKind::kWeightGradient:
          torch::autograd::backward({output}, {data}, false, false, {module->weight, module->bias});
          visits.erase({pass.stage, pass.micro_batch});
          break;
      }
    }
  }
}

void linear(benchmark::State& state, const std::string& generator) {
  const auto make = [] { return torch::nn::Linear(kWidth, kWidth); };
  Rank rank(generator, [&make](int) { return make_stage(make()); });
  torch::nn::Linear module = make();
  double total = 0;
  for (auto _ : state) {
    total += seconds([&] { rank.pipeline.step(rank.batch); });
    total -= seconds([&] { by_hand(rank.actions(), module, rank.data); });
  }
  report(state, total, rank.actions().size());
}

int run(int argc, char** argv) {
  at::set_num_threads(1);
  for (const char* name : {"1f1b", "zb-h1", "zbv", "dualpipe"}) {
    benchmark::RegisterBenchmark((std::string("nothing/") + name).c_str(), nothing, name)
        ->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark((std::string("linear/") + name).c_str(), linear, name)
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace counterflow::runtime

int main(int argc, char** argv) {
  return counterflow::runtime::run(argc, argv);
}
