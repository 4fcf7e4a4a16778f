#include "visit.h"

#include <c10/core/GradMode.h>

#include <string>
#include <utility>

#include "counterflow/error.h"
#include "counterflow/runtime/random.h"
#include "weight_split.h"

namespace counterflow::runtime {
namespace {

/// What a forward pass leaves behind.
struct Forward {
  Tensors outputs;  ///< part of the graph, unless the stage has a backward of its own
  at::Tensor loss;
  std::unique_ptr<StageBackward> backward;  ///< training only
};

/// A leaf of a stage's graph that holds what came from elsewhere.
at::Tensor make_leaf(const at::Tensor& tensor, bool differentiable) {
  if (!tensor.defined()) return tensor;
  at::Tensor leaf = tensor.detach();
  if (differentiable) leaf.set_requires_grad(true);
  return leaf;
}

Tensors make_leaves(const Tensors& tensors, const std::vector<char>& differentiable) {
  Tensors leaves;
  leaves.reserve(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) leaves.push_back(make_leaf(tensors[i], differentiable[i]));
  return leaves;
}

at::Tensor loss_of(const VisitSettings& settings, const Tensors& outputs) {
  if (!settings.loss) return {};
  static const Tensors kNoTargets;
  at::Tensor loss = (*settings.loss)(outputs, settings.targets ? *settings.targets : kNoTargets);
  if (!loss.defined() || loss.numel() != 1)
    throw InvalidConfig("the loss of a micro-batch must be one number, it has " +
                        std::to_string(loss.defined() ? loss.numel() : 0) + " elements");
  return loss;
}

/// Backward through a loss that autograd differentiates, then through a stage that has its own backward.
class LossThenStage : public StageBackward {
 public:
  LossThenStage(StageGraph loss, std::unique_ptr<StageBackward> stage)
      : loss_(std::move(loss)), stage_(std::move(stage)) {}

  Tensors backward(const Tensors& gradients) override { return stage_->backward(loss_.backward(gradients)); }
  Tensors input_gradients(const Tensors& gradients) override {
    return stage_->input_gradients(loss_.backward(gradients));
  }
  void weight_gradients() override { stage_->weight_gradients(); }

 private:
  StageGraph loss_;
  std::unique_ptr<StageBackward> stage_;
};

Forward run_forward(const VisitSettings& settings, const Tensors& inputs, bool with_graph) {
  const c10::AutoGradMode grad_mode(with_graph);
  const RandomScope random(settings.random_seed);
  Forward result;
  if (with_graph) result.backward = settings.stage.forward_with_backward(inputs, result.outputs);
  if (result.backward) {
    if (!settings.loss) return result;
    std::vector<char> floating;
    for (const at::Tensor& output : result.outputs)
      floating.push_back(output.defined() && output.is_floating_point());
    const Tensors leaves = make_leaves(result.outputs, floating);
    result.loss = loss_of(settings, leaves);
    result.backward =
        std::make_unique<LossThenStage>(StageGraph(leaves, {result.loss}), std::move(result.backward));
    return result;
  }
  result.outputs = settings.stage.forward(inputs);
  result.loss = loss_of(settings, result.outputs);
  if (with_graph)
    result.backward =
        std::make_unique<StageGraph>(inputs, settings.loss ? Tensors{result.loss} : result.outputs);
  return result;
}

/// Buffers as they are now, put back at the end: running a forward again must not count twice in batch norm's
/// averages. The version that autograd checks is left alone.
class KeepBuffers {
 public:
  explicit KeepBuffers(const Stage& stage) : buffers_(stage.buffers()) {
    for (const NamedTensor& buffer : buffers_) values_.push_back(buffer.tensor.variable_data().clone());
  }
  ~KeepBuffers() {
    for (std::size_t i = 0; i < buffers_.size(); ++i) buffers_[i].tensor.variable_data().copy_(values_[i]);
  }
  KeepBuffers(const KeepBuffers&) = delete;
  KeepBuffers& operator=(const KeepBuffers&) = delete;

 private:
  std::vector<NamedTensor> buffers_;
  Tensors values_;
};

/// Keeps the inputs, and runs the forward pass again, with the same random numbers, when backward begins.
class Recomputed : public StageBackward {
 public:
  Recomputed(const VisitSettings& settings, Tensors inputs)
      : settings_(settings), inputs_(std::move(inputs)) {}

  Tensors backward(const Tensors& gradients) override {
    const std::unique_ptr<StageBackward> again = run_again();
    return again->backward(gradients);
  }
  Tensors input_gradients(const Tensors& gradients) override {
    again_ = run_again();
    return again_->input_gradients(gradients);
  }
  void weight_gradients() override {
    again_->weight_gradients();
    again_.reset();
  }

 private:
  std::unique_ptr<StageBackward> run_again() {
    const KeepBuffers keep(settings_.stage);
    Forward forward = run_forward(settings_, inputs_, true);
    inputs_.clear();
    return std::move(forward.backward);
  }

  const VisitSettings settings_;
  Tensors inputs_;
  std::unique_ptr<StageBackward> again_;
};

/// Whether a gradient may come back for an output. Without a graph that is not known: then for every output
/// that can have one, and whatever comes back for nothing is not used.
bool is_differentiable(const at::Tensor& output, bool has_graph) {
  if (!output.defined()) return false;
  return has_graph ? output.requires_grad() : output.is_floating_point() || output.is_complex();
}

}  // namespace

Visit::Visit(const VisitSettings& settings, const Tensors& inputs, const std::vector<char>& differentiable) {
  Tensors leaves = make_leaves(inputs, settings.training ? differentiable : std::vector<char>(inputs.size()));
  Forward forward = run_forward(settings, leaves, settings.training && !settings.recompute);
  const bool has_graph = dynamic_cast<StageGraph*>(forward.backward.get());
  differentiable_outputs_.reserve(forward.outputs.size());
  outputs_.reserve(forward.outputs.size());
  for (const at::Tensor& output : forward.outputs) {
    differentiable_outputs_.push_back(settings.training && is_differentiable(output, has_graph));
    outputs_.push_back(output.defined() ? output.detach() : output);
  }
  if (forward.loss.defined()) loss_ = forward.loss.detach();
  backward_ = std::move(forward.backward);
  if (settings.training && settings.recompute)
    backward_ = std::make_unique<Recomputed>(settings, std::move(leaves));
}

}  // namespace counterflow::runtime
