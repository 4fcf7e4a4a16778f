#include "executor.h"

#include <ATen/ops/scalar_tensor.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>

#include <utility>

#include "counterflow/error.h"
#include "counterflow/runtime/error.h"

namespace counterflow::runtime {
namespace {

/// A range in profiles (NVTX, Kineto) with the action's text. Costs next to nothing where nobody listens.
class Range {
 public:
  explicit Range(const std::string& name) : function_(at::RecordScope::USER_SCOPE) {
    if (function_.isActive()) function_.before(name);
  }

 private:
  at::RecordFunction function_;
};

/// A leaf of a stage's graph that holds what came from elsewhere.
at::Tensor leaf(const at::Tensor& tensor, bool differentiable) {
  if (!tensor.defined()) return tensor;
  at::Tensor fresh = tensor.detach();
  if (differentiable) fresh.set_requires_grad(true);
  return fresh;
}

}  // namespace

Executor::Executor(const Schedule& schedule, const Program& program, Surroundings surroundings)
    : schedule_(schedule),
      rank_(surroundings.transport.rank()),
      num_stages_(schedule.num_stages()),
      training_(schedule.passes == Passes::kTraining),
      instructions_(program.ranks[rank_]),
      gradient_kinds_(static_cast<std::size_t>(num_stages_) * schedule.num_micro_batches(),
                      PassKind::kBackward),
      local_index_(num_stages_, -1),
      with_(surroundings) {
  for (const Channel& channel : program.channels)
    channels_.push_back({channel.from, channel.to, channel.receive_buffers});
  for (const Action& action : schedule.actions[rank_]) names_.push_back(to_string(action));
  for (const auto& actions : schedule.actions)
    for (const Action& action : actions)
      for (const Pass& pass : action.passes())
        if (pass.kind == PassKind::kInputGradient)
          gradient_kinds_[static_cast<std::size_t>(pass.stage) * schedule.num_micro_batches() +
                          pass.micro_batch] = pass.kind;
  for (std::size_t i = 0; i < with_.stage_numbers.size(); ++i)
    local_index_[with_.stage_numbers[i]] = static_cast<std::int32_t>(i);
}

void Executor::run(const Batch& batch, StepResult& result) {
  const int num_micro_batches = schedule_.num_micro_batches();
  batch_ = &batch;
  result_ = &result;
  weights_ = batch.weights;
  if (weights_.empty()) weights_.assign(num_micro_batches, 1.0 / num_micro_batches);
  result.losses.resize(num_micro_batches);
  result.outputs.resize(num_micro_batches);
  cells_.clear();
  cells_.resize(with_.stages.size() * num_micro_batches);
  step_ = -1;
  waits_for_ = {};
  for (std::size_t i = 0; i < instructions_.size(); ++i) {
    const Instruction& instruction = instructions_[i];
    switch (instruction.op) {
      case Op::kCompute:
        step_ = instruction.step;
        compute(schedule_.actions[rank_][step_], names_[step_]);
        break;
      case Op::kSendForward:
      case Op::kSendBackward:
        send(instruction);
        break;
      case Op::kReceiveForward:
      case Op::kReceiveBackward:
        post(instruction);
        break;
      case Op::kReduceGradients: {
        std::size_t end = i + 1;
        while (end < instructions_.size() && instructions_[end].op == Op::kReduceGradients &&
               instructions_[end].channel == instruction.channel)
          ++end;
        reduce(i, end);
        i = end - 1;
        break;
      }
    }
  }
  with_.transport.flush();
}

std::string Executor::at() const {
  return step_ < 0 ? "before the first action" : names_[step_];
}

Executor::Cell& Executor::cell(int stage, int micro_batch) {
  return cells_[static_cast<std::size_t>(local_index_[stage]) * schedule_.num_micro_batches() + micro_batch];
}

bool Executor::holds(int stage, int micro_batch) const {
  return schedule_.placement.rank_of(stage, micro_batch) == rank_;
}

Pass Executor::producer_of(const Instruction& receive) const {
  const int micro_batch = receive.micro_batch;
  if (receive.op == Op::kReceiveForward) return counterflow::forward(receive.stage - 1, micro_batch);
  const int stage = receive.stage + 1;
  return {stage, micro_batch,
          gradient_kinds_[static_cast<std::size_t>(stage) * schedule_.num_micro_batches() + micro_batch]};
}

void Executor::compute(const Action& action, const std::string& name) {
  for (const Pass& pass : action.passes()) fetch(pass);
  const Range range(name);
  for (const Pass& pass : action.passes()) run(pass);
}

void Executor::fetch(const Pass& pass) {
  const int micro_batch = pass.micro_batch;
  Cell& here = cell(pass.stage, micro_batch);
  if (pass.kind == PassKind::kForward) {
    if (pass.stage == 0) {
      here.input.tensors = batch_->inputs.at(micro_batch);
      here.input.differentiable.assign(here.input.tensors.size(), false);
    } else if (holds(pass.stage - 1, micro_batch)) {
      here.input = std::move(cell(pass.stage - 1, micro_batch).output);
    } else {
      here.input = receive(here.forward_posted, counterflow::forward(pass.stage - 1, micro_batch));
    }
  } else if (sends_gradient(pass.kind)) {
    if (pass.stage == num_stages_ - 1) return;
    if (holds(pass.stage + 1, micro_batch)) {
      here.output_gradients = std::move(cell(pass.stage + 1, micro_batch).input_gradients);
    } else {
      const Instruction as_received{
          .op = Op::kReceiveBackward, .stage = pass.stage, .micro_batch = micro_batch};
      here.output_gradients = receive(here.backward_posted, producer_of(as_received)).tensors;
    }
  }
}

void Executor::run(const Pass& pass) {
  switch (pass.kind) {
    case PassKind::kForward:
      return forward(pass);
    case PassKind::kBackward:
    case PassKind::kInputGradient:
      return backward(pass);
    case PassKind::kWeightGradient:
      return cell(pass.stage, pass.micro_batch).graph.weight_gradients();
  }
}

void Executor::forward(const Pass& pass) {
  const c10::AutoGradMode grad_mode(training_);
  Cell& here = cell(pass.stage, pass.micro_batch);
  Tensors inputs;
  inputs.reserve(here.input.tensors.size());
  for (std::size_t i = 0; i < here.input.tensors.size(); ++i)
    inputs.push_back(leaf(here.input.tensors[i], training_ && here.input.differentiable[i]));
  here.input = {};
  Tensors outputs = with_.stages[local_index_[pass.stage]]->forward(inputs);
  if (pass.stage == num_stages_ - 1) {
    const at::Tensor loss = loss_of(pass.micro_batch, outputs);
    if (loss.defined()) result_->losses[pass.micro_batch] = loss.detach();
    if (training_)
      here.graph = StageGraph(inputs, {loss});
    else
      result_->outputs[pass.micro_batch] = std::move(outputs);
    return;
  }
  if (training_) here.graph = StageGraph(inputs, outputs);
  here.output.producer = pass;
  here.output.differentiable.reserve(outputs.size());
  for (at::Tensor& output : outputs) {
    here.output.differentiable.push_back(output.defined() && output.requires_grad());
    here.output.tensors.push_back(output.defined() ? output.detach() : output);
  }
}

at::Tensor Executor::loss_of(int micro_batch, const Tensors& outputs) {
  const bool has_target = static_cast<std::size_t>(micro_batch) < batch_->targets.size();
  if (!training_ && (!has_target || !with_.options.loss)) return {};
  if (!with_.options.loss)
    throw InvalidConfig("this rank holds the last stage: PipelineOptions::loss is needed");
  static const Tensors kNone;
  at::Tensor loss = with_.options.loss(outputs, has_target ? batch_->targets[micro_batch] : kNone);
  if (!loss.defined() || loss.numel() != 1)
    throw InvalidConfig("the loss of a micro-batch must be one number; it has " +
                        std::to_string(loss.defined() ? loss.numel() : 0) + " elements");
  return loss;
}

void Executor::backward(const Pass& pass) {
  Cell& here = cell(pass.stage, pass.micro_batch);
  if (pass.stage == num_stages_ - 1) {
    const at::Tensor& loss = result_->losses[pass.micro_batch];
    here.output_gradients = {
        at::scalar_tensor(weights_[pass.micro_batch], loss.options()).view(loss.sizes())};
  }
  here.input_gradients = pass.kind == PassKind::kBackward ? here.graph.backward(here.output_gradients)
                                                          : here.graph.input_gradients(here.output_gradients);
  here.output_gradients.clear();
}

Message Executor::receive(Posted& posted, const Pass& producer) {
  waits_for_ = {producer, posted.from};
  Message message = with_.transport.wait(posted.from, posted.buffer);
  waits_for_.from = -1;
  return message;
}

void Executor::post(const Instruction& instruction) {
  Cell& here = cell(instruction.stage, instruction.micro_batch);
  const Posted posted{channels_[instruction.channel].from, instruction.buffer};
  (instruction.op == Op::kReceiveForward ? here.forward_posted : here.backward_posted) = posted;
  with_.transport.post_receive(posted.from, posted.buffer, producer_of(instruction));
}

void Executor::send(const Instruction& instruction) {
  Cell& here = cell(instruction.stage, instruction.micro_batch);
  const int to = channels_[instruction.channel].to;
  if (instruction.op == Op::kSendForward) {
    with_.transport.send(to, std::move(here.output));
    return;
  }
  const std::size_t index =
      static_cast<std::size_t>(instruction.stage) * schedule_.num_micro_batches() + instruction.micro_batch;
  Message message{{instruction.stage, instruction.micro_batch, gradient_kinds_[index]},
                  std::move(here.input_gradients),
                  {}};
  with_.transport.send(to, std::move(message));
}

void Executor::reduce(std::size_t begin, std::size_t end) {
  std::vector<at::Tensor> parameters;
  Tensors gradients;
  for (std::size_t i = begin; i < end; ++i) {
    for (NamedTensor& parameter : with_.stages[local_index_[instructions_[i].stage]]->parameters()) {
      if (!parameter.tensor.requires_grad()) continue;
      gradients.push_back(parameter.tensor.grad());
      parameters.push_back(std::move(parameter.tensor));
    }
  }
  with_.transport.all_reduce(instructions_[begin].channel, gradients);
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = gradients[i];
}

}  // namespace counterflow::runtime
