#include "training.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tanh.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <string>
#include <utility>

#include "counterflow/generate.h"
#include "counterflow/runtime/module.h"

namespace counterflow::fake {
namespace {

using namespace runtime;

const at::Device kGpu(at::kCUDA, 0);

/// tanh(x · weight + bias), with numbers of its own for each stage.
struct Layer : torch::nn::Module {
  explicit Layer(int stage)
      : weight(
            register_parameter("weight", (at::arange(9, at::kFloat).view({3, 3}) / (10 + stage)).to(kGpu))),
        bias(register_parameter("bias", at::full({3}, 0.1 * stage, kGpu))) {}

  at::Tensor forward(const at::Tensor& x) const { return at::tanh(at::matmul(x, weight) + bias); }

  at::Tensor weight, bias;
};

/// Other numbers in each step.
Batch batch(const Training& training, int step) {
  Batch all;
  for (int m = 0; m < training.num_micro_batches; ++m) {
    const double number = 0.1 * step + 0.01 * m;
    all.inputs.push_back({at::full({training.rows(step), 3}, number, kGpu)});
    all.targets.push_back({at::full({training.rows(step), 3}, 1 - number, kGpu)});
  }
  return all;
}

/// A step that adds to the gradients that there are: a recorded one adds the sum over its micro-batches, one
/// that is not adds each, and would round differently.
StepResult accumulate(Pipeline& pipeline, const Training& training, const Batch& batch) {
  if (training.records) return pipeline.step(batch);
  std::vector<at::Tensor> before;
  for (const at::Tensor& parameter : pipeline.parameters())
    before.push_back(std::exchange(parameter.mutable_grad(), {}));
  StepResult result = pipeline.step(batch);
  for (std::size_t i = 0; i < before.size(); ++i) {
    at::Tensor& gradient = pipeline.parameters()[i].mutable_grad();
    gradient = before[i] + gradient;
  }
  return result;
}

}  // namespace

void train(const Training& training, int rank, const OpenStore& open_store) {
  training.before(rank);
  const auto transport = make_gpu_transport(open_store, rank, training.num_ranks,
                                            {.link = training.link,
                                             .slots = training.slots,
                                             .slot_bytes = 16,
                                             .heartbeat_timeout = training.heartbeat_timeout,
                                             .may_share = training.may_share});
  PipelineOptions options;
  options.loss = [](const at::Tensor& output, const at::Tensor& target) {
    return (output - target).square().mean();
  };
  if (training.records) options.recorder = training.recorder();
  options.streams = training.streams;
  options.gradient_type = training.gradient_type;
  options.timeout = training.timeout;
  Pipeline pipeline(
      generate(training.generator, {training.num_ranks, training.num_micro_batches}), *transport,
      [&](int stage) {
        const auto layer = std::make_shared<Layer>(stage);
        return make_stage(
            [&training, rank, layer](const Tensors& x) {
              training.forward(rank, x.at(0));
              return Tensors{layer->forward(x.at(0))};
            },
            layer);
      },
      std::move(options));
  note_set_up();
  for (int step = 0; step < training.steps; ++step) {
    if (step == 4) training.between(rank);
    const bool adds = step == 3 || step == 5;
    if (!adds)
      for (const at::Tensor& parameter : pipeline.parameters()) parameter.mutable_grad() = at::Tensor();
    const StepResult result =
        adds ? accumulate(pipeline, training, batch(training, step)) : pipeline.step(batch(training, step));
    for (const at::Tensor& loss : result.losses)
      if (loss.defined()) leave(loss);
    for (const at::Tensor& parameter : pipeline.parameters()) leave(parameter.grad());
    if (!training.evaluates || (step != 2 && step != 4)) continue;
    for (const Tensors& outputs : pipeline.evaluate(batch(training, step)).outputs)
      for (const at::Tensor& output : outputs) leave(output);
  }
}

std::vector<Outcome> run(const Training& training) {
  return run_ranks(training.num_ranks,
                   [&](int rank, const OpenStore& open_store) { train(training, rank, open_store); });
}

void expect_trains_as_unrecorded(const Training& training) {
  SCOPED_TRACE(std::string(training.generator) + ", " + std::to_string(training.num_ranks) + " ranks, " +
               std::to_string(training.streams.value_or(0)) + " streams");
  Training eager = training;
  eager.records = false;
  eager.streams = 1;
  eager.link = GpuLink::kNccl;
  const std::vector<Outcome> expected = run(eager);
  const std::vector<Outcome> found = run(training);
  for (int rank = 0; rank < training.num_ranks; ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    ASSERT_EQ(expected[rank].error, "");
    ASSERT_EQ(found[rank].error, "");
    EXPECT_STREQ(found[rank].whole.misuse, "");
    EXPECT_EQ(found[rank].whole.destroyed, found[rank].set_up.made);
    EXPECT_EQ(found[rank].whole.aborted, 0);
    EXPECT_GE(found[rank].numbers.size(), 12U * training.steps);
    ASSERT_EQ(found[rank].numbers.size(), expected[rank].numbers.size());
    const auto [one, other] =
        std::mismatch(found[rank].numbers.begin(), found[rank].numbers.end(), expected[rank].numbers.begin());
    if (one != found[rank].numbers.end())
      ADD_FAILURE() << "number " << one - found[rank].numbers.begin() << " of " << found[rank].numbers.size()
                    << " is " << *one << ", not " << *other;
  }
}

/// Every generator, with the fewest micro-batches that it takes.
std::vector<Training> trainings_of_generators(int num_ranks) {
  std::vector<Training> all;
  for (const Generator* generator : all_generators()) {
    for (const int num_micro_batches : {2, 3, 4, 6, 8, 10, 12}) {
      if (!generator->fits({num_ranks, num_micro_batches, generator->stages_per_rank})) continue;
      all.push_back({generator->name, num_ranks, num_micro_batches});
      break;
    }
  }
  return all;
}

}  // namespace counterflow::fake
