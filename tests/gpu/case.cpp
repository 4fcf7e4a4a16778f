#include "case.h"

#include <cmath>
#include <cstdio>
#include <mutex>
#include <numeric>

#include "../runtime/plain_loop.h"
#include "counterflow/runtime/cuda_recorder.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pieces.h"
#include "counterflow/runtime/random.h"
#include "report.h"

namespace counterflow::runtime {
namespace {

constexpr std::uint64_t kSeed = 7;

std::mutex g_plain;  ///< held by a plain loop that draws: from the process's generators

/// Every other piece on the communication lane.
std::shared_ptr<Stage> make_stage(const Case& one, const std::shared_ptr<models::StageModule>& module) {
  if (!one.in_pieces) return runtime::make_stage(module);
  std::vector<Piece> pieces;
  for (auto& forward : module->pieces())
    pieces.push_back({std::to_string(pieces.size()),
                      pieces.size() % 2 ? Lane::kCommunication : Lane::kCompute, std::move(forward)});
  return runtime::make_stage(std::move(pieces), module);
}

double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const double norm = expected.to(at::kDouble).norm().item<double>();
  const double error = (found.to(at::kDouble) - expected.to(at::kDouble)).norm().item<double>();
  return norm == 0 ? error : error / norm;
}

/// The plain loop's, of the step of this number, with sums in fp32 where the case has them.
plain::Run run_plain(const models::Model& model, const Case& one, int num_micro_batches, int number) {
  plain::Seed seed;
  std::unique_lock lock(g_plain, std::defer_lock);
  if (one.dropout > 0) {
    lock.lock();
    seed = [number](int, int stage, int m) { return random_seed(kSeed, number, stage, m); };
  }
  if (!one.wide) return plain::train(model, num_micro_batches, 1, seed);
  std::vector<int> order(num_micro_batches);
  std::iota(order.begin(), order.end(), 0);
  const std::vector<std::vector<std::vector<int>>> copies(model.num_stages, {order});
  return plain::train(model, num_micro_batches, 1, seed, copies, at::kFloat);
}

/// The largest error of the losses and the gradients that this rank holds, after the pipeline's step of this
/// number.
double compare(const models::Model& model, const Case& one, const Pipeline& pipeline,
               const StepResult& result, int step) {
  const int num_micro_batches = pipeline.schedule().num_micro_batches();
  const plain::Run expected = run_plain(model, one, num_micro_batches, step);
  double error = 0;
  for (int m = 0; m < num_micro_batches; ++m) {
    if (!result.losses[m].defined()) continue;
    const double found = relative_error(result.losses[m], expected.losses[0][m]);
    error = found <= error ? error : found;  // a NaN stays
  }
  for (const int stage : pipeline.stages()) {
    const auto parameters = pipeline.stage(stage).parameters();
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      const at::Tensor& gradient = parameters[p].tensor.grad();
      const double found = relative_error(gradient, expected.gradients[stage].at(p));
      error = found <= error ? error : found;
      if (one.wide && gradient.scalar_type() != at::kFloat) error = std::nan("");
    }
  }
  return error;
}

/// Copies of the gradients that a step left.
Tensors gradients_of(const Pipeline& pipeline) {
  Tensors all;
  for (const at::Tensor& parameter : pipeline.parameters()) all.push_back(parameter.grad().clone());
  return all;
}

}  // namespace

bool is_tried(const Case& one, const Schedule& schedule) {
  return (!one.wide && one.dropout == 0) || schedule.name == "1f1b" || schedule.name == "zbv" ||
         schedule.name == "dualpipe" || schedule.name == "chimera";
}

std::unique_ptr<models::Model> make_model(const Case& one, int num_stages) {
  return one.transformer ? models::gpt(num_stages, one.dropout) : models::mlp(num_stages);
}

Batch batch_of(const models::Model& model, const Pipeline& pipeline, int step) {
  Batch batch;
  const int num_micro_batches = pipeline.schedule().num_micro_batches();
  batch.inputs.resize(num_micro_batches);
  batch.targets.resize(num_micro_batches);
  for (int m = 0; m < num_micro_batches; ++m) {
    if (pipeline.takes_input(m)) batch.inputs[m] = model.input(step, m);
    if (pipeline.takes_target(m)) batch.targets[m] = model.target(step, m);
  }
  return batch;
}

PipelineOptions options_for(const models::Model& model) {
  PipelineOptions options;
  options.loss = [&model](const Tensors& outputs, const Tensors& targets) {
    return model.loss(outputs, targets);
  };
  options.timeout = std::chrono::seconds(60);
  options.seed = kSeed;
  if (const auto names = model.tied(); !names.empty())
    options.ties = {{{{0, names[0]}, {model.num_stages - 1, names[1]}}}};
  return options;
}

Tensors check(Transport& transport, at::Device device, const Schedule& schedule, const Case& one,
              const Way& way, const Tensors* expected) {
  const auto on_cpu = make_model(one, schedule.num_stages());
  const models::OnDevice model(*on_cpu, device, one.type);
  PipelineOptions options = options_for(model);
  if (const auto names = on_cpu->tied(); !names.empty()) options.ties.clear();
  if (way.recorded) options.recorder = make_cuda_recorder(device.index());
  if (one.wide) options.gradient_type = at::kFloat;
  for (int stage = 0; one.recompute && stage < schedule.num_stages(); ++stage)
    options.recompute.push_back(stage);
  options.streams = way.streams;
  Pipeline pipeline(
      schedule, transport, [&](int stage) { return make_stage(one, model.stage(stage)); },
      std::move(options));
  double error = 0;
  const int num_steps = way.streams == 0 ? 9 : 4;  // after a trial
  for (int step = 0; step < num_steps; ++step) {
    for (const at::Tensor& parameter : pipeline.parameters()) parameter.mutable_grad() = at::Tensor();
    const StepResult result = pipeline.step(batch_of(model, pipeline, 0));
    if (one.dropout > 0) transport.all_gather("");  // nobody draws while plain loops do
    const double found = compare(model, one, pipeline, result, step);
    if (one.dropout > 0) transport.all_gather("");
    error = found <= error ? error : found;
    if (step == 0) pipeline.evaluate(batch_of(model, pipeline, 0));
  }
  Tensors gradients = gradients_of(pipeline);
  bool same = true;
  for (std::size_t i = 0; expected && i < gradients.size(); ++i) same &= gradients[i].equal((*expected)[i]);
  char text[160];
  std::snprintf(text, sizeof text, "%-24s %-23s rank %d: largest relative error %.2e%s%s%s",
                schedule.name.c_str(), one.name, transport.rank(), error, expected ? ", " : "", way.name,
                !expected ? ""
                : same    ? ": the same bits"
                          : ": OTHER BITS");
  report(error <= one.tolerance && same, transport.rank(), text);
  return gradients;
}

}  // namespace counterflow::runtime
