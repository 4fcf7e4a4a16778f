#include "recorded_step.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <string>
#include <utility>

#include "counterflow/error.h"
#include "device_order.h"

namespace counterflow::runtime {
namespace {

Tensors copies(const Tensors& tensors) {
  Tensors all;
  for (const at::Tensor& tensor : tensors) all.push_back(tensor.defined() ? tensor.clone() : tensor);
  return all;
}

/// All at once: a copy each would hold up a small step.
void fill(std::vector<Tensors>& places, const std::vector<Tensors>& values, const char* what) {
  Tensors to;
  Tensors from;
  for (std::size_t m = 0; m < places.size(); ++m) {
    if (places[m].empty()) continue;
    if (m >= values.size() || !alike(places[m], values[m]))
      throw InvalidConfig("the " + std::string(what) + " of micro-batch " + std::to_string(m) + " are " +
                          (m < values.size() ? describe(values[m]) : "missing") +
                          "; the recorded step takes " + describe(places[m]));
    for (std::size_t i = 0; i < places[m].size(); ++i)
      if (places[m][i].defined()) {
        to.push_back(places[m][i]);
        from.push_back(values[m][i]);
      }
  }
  if (!to.empty()) at::_foreach_copy_(to, from);  // the host waits for none but what lies with itself
}

/// What the host has, a replay would not look at again, or while the next step's is being put there.
void refuse_host_tensors(const std::vector<Tensors>& values, const char* what) {
  for (std::size_t m = 0; m < values.size(); ++m)
    for (const at::Tensor& tensor : values[m])
      if (tensor.defined() && tensor.is_cpu())
        throw InvalidConfig("the " + std::string(what) + " of micro-batch " + std::to_string(m) +
                            " are on the CPU: a step to be recorded takes those on its own device");
}

const void* place_of(const at::Tensor& parameter) {
  return parameter.has_storage() ? parameter.storage().data() : nullptr;
}

}  // namespace

StepResult RecordedStep::run(const Batch& batch, const std::vector<std::uint64_t>& seeds, const Body& body) {
  const c10::AutoGradMode no_grad(false);
  Tensors before;
  for (const at::Tensor& parameter : parameters_)
    before.push_back(std::exchange(parameter.mutable_grad(), {}));
  StepResult found;
  recorder_.run([&] {
    if (!warm_) {
      const c10::AutoGradMode with_grad(true);
      found = body(batch);
      warm_ = true;
    } else {
      if (!recorded_) {
        refuse_host_tensors(batch);
        finish_work(parameters_);
        meet_();
        record(batch, seeds, body);
        meet_();
      }
      check_places();
      for (std::size_t i = 0; i < before.size(); ++i)  // what the last replay left is about to be overwritten
        if (before[i].defined() && gradients_[i].defined() && before[i].is_alias_of(gradients_[i]))
          before[i] = before[i].clone();
      fill(batch);
      recorder_.replay(pick(seeds));
      replayed_();
      found = result();
      for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i].mutable_grad() = gradients_[i];
    }
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      at::Tensor& gradient = parameters_[i].mutable_grad();
      if (!before[i].defined()) continue;
      gradient = gradient.defined() ? before[i].add_(gradient) : before[i];
    }
  });
  return found;
}

void RecordedStep::record(const Batch& batch, const std::vector<std::uint64_t>& seeds, const Body& body) {
  batch_ = {{}, {}, batch.weights};
  for (const Tensors& inputs : batch.inputs) batch_.inputs.push_back(copies(inputs));
  for (const Tensors& targets : batch.targets) batch_.targets.push_back(copies(targets));
  gradients_.clear();
  recorder_.record([&] {
    const c10::AutoGradMode with_grad(true);
    result_ = body(batch_);
    const c10::AutoGradMode without_grad(false);
    Tensors losses;
    for (const at::Tensor& loss : result_.losses)
      if (loss.defined()) losses.push_back(loss.reshape({}));
    if (!losses.empty()) losses_ = at::stack(losses);
  });
  for (const at::Tensor& parameter : parameters_)
    gradients_.push_back(std::exchange(parameter.mutable_grad(), {}));
  scopes_.clear();
  for (const std::uint64_t seed : recorder_.seeds())
    scopes_.push_back(std::find(seeds.begin(), seeds.end(), seed) - seeds.begin());
  places_.clear();
  for (const at::Tensor& parameter : parameters_) places_.push_back(place_of(parameter));
  recorded_ = true;
}

void RecordedStep::refuse_host_tensors(const Batch& batch) const {
  if (parameters_.empty() || parameters_.front().is_cpu()) return;
  runtime::refuse_host_tensors(batch.inputs, "inputs");
  runtime::refuse_host_tensors(batch.targets, "targets");
}

void RecordedStep::check_places() const {
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (places_[i] != place_of(parameters_[i]))
      throw InvalidConfig("a parameter, " + describe(parameters_[i]) +
                          ", has other memory than when the step was recorded: copy new values into it "
                          "(copy_()), do not replace it");
}

/// For each of the recorder's. One that is none of the step's is a stage's own and stays.
std::vector<std::uint64_t> RecordedStep::pick(const std::vector<std::uint64_t>& seeds) const {
  std::vector<std::uint64_t> picked = recorder_.seeds();
  for (std::size_t i = 0; i < picked.size(); ++i)
    if (scopes_[i] < seeds.size()) picked[i] = seeds[scopes_[i]];
  return picked;
}

void RecordedStep::fill(const Batch& batch) {
  if (batch.weights != batch_.weights)
    throw InvalidConfig("a recorded step keeps the weights of its micro-batches");
  runtime::fill(batch_.inputs, batch.inputs, "inputs");
  runtime::fill(batch_.targets, batch.targets, "targets");
}

StepResult RecordedStep::result() const {
  StepResult found;
  found.weights = result_.weights;
  const at::Tensor losses = losses_.defined() ? losses_.clone() : losses_;
  std::int64_t next = 0;
  for (const at::Tensor& loss : result_.losses)
    found.losses.push_back(loss.defined() ? losses.select(0, next++).view(loss.sizes()) : at::Tensor());
  for (const Tensors& outputs : result_.outputs) found.outputs.push_back(copies(outputs));
  return found;
}

}  // namespace counterflow::runtime
