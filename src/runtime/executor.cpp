#include "executor.h"

#include <ATen/ops/scalar_tensor.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <cmath>

#include "counterflow/error.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/random.h"
#include "fused_sums.h"

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

c10::Device device_of(const std::vector<std::shared_ptr<Stage>>& stages) {
  for (const auto& stage : stages)
    for (const NamedTensor& parameter : stage->parameters()) return parameter.tensor.device();
  return c10::kCPU;
}

}  // namespace

Executor::Executor(const Schedule& schedule, const Program& program, const Setup& setup)
    : schedule_(schedule),
      program_(program),
      setup_(setup),
      rank_(setup.transport.rank() - setup.first_rank),
      last_stage_(schedule.num_stages() - 1),
      training_(schedule.passes == Passes::kTraining),
      gradient_kind_(index(schedule.num_stages(), 0), PassKind::kBackward),
      local_index_(schedule.num_stages(), -1),
      recompute_(schedule.num_stages(), false) {
  for (const auto& stage : setup.stages) has_buffers_ |= !stage->buffers().empty();
  for (const Action& action : schedule.actions[rank_]) names_.push_back(to_string(action));
  for (int stage = 0; stage < schedule.num_stages(); ++stage)
    for (int m = 0; m < schedule.num_micro_batches(); ++m)
      rank_of_.push_back(schedule.placement.rank_of(stage, m));
  for (const auto& actions : schedule.actions)
    for (const Action& action : actions)
      for (const Pass& pass : action.passes())
        if (sends_gradient(pass.kind)) gradient_kind_[index(pass.stage, pass.micro_batch)] = pass.kind;
  for (std::size_t i = 0; i < setup.stage_numbers.size(); ++i)
    local_index_[setup.stage_numbers[i]] = static_cast<std::int32_t>(i);
  for (const int stage : setup.options.recompute) recompute_.at(stage) = true;
}

void Executor::set_streams(int number) {
  streams_ = ComputeStreams(device_of(setup_.stages), number);
  streams_of_ = assign_streams(schedule_, rank_, number);
}

void Executor::run(const Batch& batch, std::int64_t step_number, StepResult& result,
                   TimelineRecorder* recorder) {
  batch_ = &batch;
  recorder_ = recorder;
  result_ = &result;
  step_number_ = step_number;
  step_ = -1;
  waits_for_.reset();
  cells_ = std::vector<Cell>(index(static_cast<int>(setup_.stages.size()), 0));
  input_shapes_.assign(setup_.stages.size(), std::nullopt);
  gradient_shapes_.assign(setup_.stages.size(), std::nullopt);
  sum_ = {};
  forward_ = {};
  streams_.begin();
  setup_.transport.begin_step(training_);
  sent_early_ = program_.ranks[rank_].size();
  output_bytes_.assign(setup_.stages.size(), 0);
  result.losses.resize(schedule_.num_micro_batches());
  result.outputs.resize(schedule_.num_micro_batches());
  const FusingSums fusing(setup_.options.fuse_gradient_sums);
  const std::vector<Instruction>& instructions = program_.ranks[rank_];
  for (std::size_t i = 0; i < instructions.size(); ++i) {
    const Instruction& instruction = instructions[i];
    switch (instruction.op) {
      case Op::kCompute:
        step_ = instruction.step;
        run(schedule_.actions[rank_][step_], i);
        break;
      case Op::kSendForward:
      case Op::kSendBackward:
        if (i != sent_early_) send(instruction);
        break;
      case Op::kReceiveForward:
      case Op::kReceiveBackward:
        post(instruction);
        break;
      case Op::kReduceGradients:
        break;  // Gradients sums them all, those of replicas and of tied parameters with them.
    }
  }
  streams_.end();
  setup_.transport.flush();
  cells_.clear();
}

Pass Executor::producer_of_gradient(int stage, int micro_batch) const {
  return {stage + 1, micro_batch, gradient_kind_[index(stage + 1, micro_batch)]};
}

void Executor::post(const Instruction& instruction) {
  const ComputeStreams::On on(streams_, stream_of(instruction.stage, instruction.micro_batch));
  const int from = setup_.first_rank + program_.channels[instruction.channel].from;
  Cell& here = cell(instruction.stage, instruction.micro_batch);
  if (instruction.op == Op::kReceiveForward) {
    here.forward_buffer = instruction.buffer;
    setup_.transport.post_receive(from, instruction.buffer,
                                  counterflow::forward(instruction.stage - 1, instruction.micro_batch));
  } else {
    here.backward_buffer = instruction.buffer;
    setup_.transport.post_receive(from, instruction.buffer,
                                  producer_of_gradient(instruction.stage, instruction.micro_batch));
  }
}

void Executor::send(const Instruction& instruction) {
  const ComputeStreams::On on(streams_, stream_of(instruction.stage, instruction.micro_batch));
  const int to = setup_.first_rank + program_.channels[instruction.channel].to;
  Cell& here = cell(instruction.stage, instruction.micro_batch);
  Message message = std::move(here.output);
  if (instruction.op == Op::kSendBackward) {
    const PassKind kind = gradient_kind_[index(instruction.stage, instruction.micro_batch)];
    message = {{instruction.stage, instruction.micro_batch, kind}, std::move(here.input_gradients), {}};
  }
  if (recorder_) recorder_->sent(message);
  setup_.transport.send(to, std::move(message));
}

/// Of a pair that runs one after the other: what the forward gave need not wait for the backward. Its place
/// among the messages of its channel stays.
void Executor::send_early(const Pass& forward, std::size_t at) {
  const std::vector<Instruction>& instructions = program_.ranks[rank_];
  std::vector<std::int32_t> passed_by;
  for (std::size_t i = at + 1; i < instructions.size() && instructions[i].op != Op::kCompute; ++i) {
    const Instruction& instruction = instructions[i];
    if (instruction.op == Op::kSendBackward) passed_by.push_back(instruction.channel);
    if (instruction.op != Op::kSendForward || instruction.stage != forward.stage ||
        instruction.micro_batch != forward.micro_batch)
      continue;
    if (std::find(passed_by.begin(), passed_by.end(), instruction.channel) != passed_by.end()) return;
    send(instruction);
    sent_early_ = i;
    return;
  }
}

void Executor::fetch(const Pass& pass) {
  const int micro_batch = pass.micro_batch;
  const int local = local_index_[pass.stage];
  Cell& here = cell(pass.stage, micro_batch);
  if (pass.kind == PassKind::kForward) {
    if (pass.stage == 0) {
      here.input.tensors = batch_->inputs[micro_batch];
      here.input.differentiable.assign(here.input.tensors.size(), false);
    } else if (holds(pass.stage - 1, micro_batch)) {
      Cell& before = cell(pass.stage - 1, micro_batch);
      here.input = std::move(before.output);
      streams_.take(before.forward_done, here.input.tensors);
    } else {
      here.input = receive(here.forward_buffer, counterflow::forward(pass.stage - 1, micro_batch),
                           input_shapes_[local]);
    }
  } else if (sends_gradient(pass.kind) && pass.stage < last_stage_) {
    if (holds(pass.stage + 1, micro_batch)) {
      Cell& after = cell(pass.stage + 1, micro_batch);
      here.output_gradients = std::move(after.input_gradients);
      streams_.take(after.backward_done, here.output_gradients);
    } else {
      here.output_gradients = receive(here.backward_buffer, producer_of_gradient(pass.stage, micro_batch),
                                      gradient_shapes_[local])
                                  .tensors;
    }
  }
}

Message Executor::receive(int buffer, const Pass& producer, std::optional<Shapes>& expected) {
  const int from = setup_.first_rank + rank_of_[index(producer.stage, producer.micro_batch)];
  waits_for_ = Wait{producer, from, std::chrono::steady_clock::now()};
  if (recorder_) recorder_->wait();
  Message message = setup_.transport.wait(from, buffer);
  if (recorder_) recorder_->arrived(producer);
  waits_for_.reset();
  if (setup_.options.varying_shapes) return message;
  if (!expected)
    expected = Shapes{producer, message.tensors};
  else if (!alike(message.tensors, expected->like))
    throw TransportError("rank " + std::to_string(from) + " sent " + describe(message.tensors) + " for " +
                         to_string(producer) + ", but " + describe(expected->like) + " for " +
                         to_string(expected->producer) +
                         " (micro-batches may differ only with PipelineOptions::varying_shapes)");
  return message;
}

void Executor::run(const Action& action, std::size_t at) {
  const auto passes = action.passes();
  if (setup_.options.recorder && training_) {
    const ComputeStreams::On on(streams_, stream_of(passes[0]));
    setup_.options.recorder->mark(step_);
  }
  if (action.is_overlap() && !cell(passes[1].stage, passes[1].micro_batch).visit->can_overlap())
    return run_in_turn(passes[0], passes[1], at);
  for (const Pass& pass : passes) {
    const ComputeStreams::On on(streams_, stream_of(pass));
    fetch(pass);
  }
  const Range range(names_[step_]);
  const ComputeStreams::On on(streams_, stream_of(passes[0]));
  if (recorder_) recorder_->begin();
  if (action.is_overlap()) {
    overlap(passes[0], passes[1]);
    if (recorder_) recorder_->end(action);
    return;
  }
  const Pass& pass = passes[0];
  if (split_backward_ && pass.kind == PassKind::kBackward) {
    run(input_gradient(pass.stage, pass.micro_batch));
    run(weight_gradient(pass.stage, pass.micro_batch));
  } else {
    run(pass);
  }
}

/// Side by side all the same where the two have streams of their own.
void Executor::run_in_turn(const Pass& ahead, const Pass& behind, std::size_t at) {
  std::optional<ComputeStreams::On> on(std::in_place, streams_, stream_of(ahead));
  fetch(ahead);
  const Range range(names_[step_]);
  if (recorder_) recorder_->begin();
  forward(ahead);
  on.reset();
  send_early(ahead, at);
  on.emplace(streams_, stream_of(behind));
  fetch(behind);
  backward(behind);
  if (recorder_) recorder_->end(Action::overlap(ahead, behind));
}

void Executor::run(const Pass& pass) {
  switch (pass.kind) {
    case PassKind::kForward:
      forward(pass);
      break;
    case PassKind::kBackward:
    case PassKind::kInputGradient:
      backward(pass);
      break;
    case PassKind::kWeightGradient:
      begin_sum(stream_of(pass));
      cell(pass.stage, pass.micro_batch).visit->weight_gradients();
      end_visit(pass);
      end_sum(stream_of(pass));
      break;
  }
  if (recorder_) recorder_->end(pass);
}

void Executor::forward(const Pass& pass) {
  Cell& here = cell(pass.stage, pass.micro_batch);
  const int stream = stream_of(pass);
  if (has_buffers_ && forward_.stream != stream) streams_.take(forward_.done, {});
  Visit visit(settings_of(pass), here.input.tensors, here.input.differentiable);
  here.forward_done = streams_.mark();
  forward_ = {here.forward_done, stream};
  here.input = {};
  keep(pass, std::move(visit));
}

void Executor::backward(const Pass& pass) {
  Cell& here = cell(pass.stage, pass.micro_batch);
  const Tensors& gradients = gradients_for(pass);
  if (pass.kind == PassKind::kBackward) {
    begin_sum(stream_of(pass));
    here.input_gradients = here.visit->backward(gradients);
    end_visit(pass);
    end_sum(stream_of(pass));
  } else {
    here.input_gradients = here.visit->input_gradients(gradients);
  }
  here.backward_done = streams_.mark();
  here.output_gradients.clear();
}

/// Around what adds to parameters' gradients: one after the other, in the schedule's order.
void Executor::begin_sum(int stream) {
  if (sum_.stream != stream) streams_.take(sum_.done, {});
}

void Executor::end_sum(int stream) {
  sum_ = {streams_.mark(), stream};
}

void Executor::overlap(const Pass& forward, const Pass& backward) {
  Cell& ahead = cell(forward.stage, forward.micro_batch);
  Cell& behind = cell(backward.stage, backward.micro_batch);
  const Tensors& gradients = gradients_for(backward);
  {
    const ComputeStreams::On on(streams_, stream_of(backward));
    behind.backward_done = streams_.mark();
  }
  streams_.take(behind.backward_done, gradients);
  streams_.take(sum_.done, {});
  streams_.take(forward_.done, {});
  Visit visit = Visit::overlap(settings_of(forward), ahead.input.tensors, ahead.input.differentiable,
                               *behind.visit, gradients, behind.input_gradients);
  end_visit(backward);
  ahead.forward_done = behind.backward_done = streams_.mark();
  sum_ = forward_ = {ahead.forward_done, stream_of(forward)};
  ahead.input = {};
  behind.output_gradients.clear();
  keep(forward, std::move(visit));
  const ComputeStreams::On on(streams_, stream_of(backward));
  streams_.take(behind.backward_done, behind.input_gradients);
}

/// After the last of a micro-batch's passes through a stage, which may have left gradients of parameters.
void Executor::end_visit(const Pass& backward) {
  cell(backward.stage, backward.micro_batch).visit.reset();
  if (setup_.wide_gradients) setup_.wide_gradients->widen(local_index_[backward.stage]);
}

VisitSettings Executor::settings_of(const Pass& forward) const {
  const std::size_t m = forward.micro_batch;
  const int replica = setup_.first_rank / schedule_.num_ranks();
  const int counted = replica * schedule_.num_micro_batches() + forward.micro_batch;
  VisitSettings settings{
      .stage = *setup_.stages[local_index_[forward.stage]],
      .random_seed = random_seed(setup_.options.seed, step_number_, forward.stage, counted),
      .training = training_,
      .recompute = static_cast<bool>(recompute_[forward.stage])};
  const bool has_targets = m < batch_->targets.size() && !batch_->targets[m].empty();
  if (forward.stage == last_stage_ && (training_ || (has_targets && setup_.options.loss))) {
    settings.loss = &setup_.options.loss;
    settings.targets = has_targets ? &batch_->targets[m] : nullptr;
  }
  return settings;
}

void Executor::keep(const Pass& forward, Visit visit) {
  Cell& here = cell(forward.stage, forward.micro_batch);
  const std::size_t m = forward.micro_batch;
  if (forward.stage == last_stage_) {
    check_loss(forward, visit.loss());
    result_->losses[m] = visit.loss();
    if (!training_ || setup_.options.keep_outputs) result_->outputs[m] = std::move(visit.outputs());
  } else {
    std::int64_t bytes = 0;
    for (const at::Tensor& output : visit.outputs())
      if (output.defined()) bytes += static_cast<std::int64_t>(output.nbytes());
    std::int64_t& most = output_bytes_[local_index_[forward.stage]];
    most = std::max(most, bytes);
    here.output = {forward, std::move(visit.outputs()), visit.differentiable_outputs()};
  }
  visit.outputs().clear();
  if (training_) here.visit.emplace(std::move(visit));
}

const Tensors& Executor::gradients_for(const Pass& backward) {
  Tensors& gradients = cell(backward.stage, backward.micro_batch).output_gradients;
  if (backward.stage == last_stage_) {
    const at::Tensor& loss = result_->losses[backward.micro_batch];
    gradients = {
        at::scalar_tensor(result_->weights[backward.micro_batch], loss.options()).expand(loss.sizes())};
  }
  return gradients;
}

void Executor::check_loss(const Pass& pass, const at::Tensor& loss) const {
  if (!setup_.options.check_losses || !loss.defined()) return;
  const double value = loss.item().toDouble();
  if (!std::isfinite(value))
    throw Error("the loss of micro-batch " + std::to_string(pass.micro_batch) + " is " +
                std::to_string(value));
}

}  // namespace counterflow::runtime
