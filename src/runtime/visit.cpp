#include "visit.h"

#include <c10/core/GradMode.h>

#include <string>
#include <utility>

#include "counterflow/error.h"
#include "counterflow/runtime/random.h"
#include "leaves.h"
#include "weight_split.h"

namespace counterflow::runtime {
namespace {

/// A leaf of a stage's graph that holds what came from elsewhere.
at::Tensor make_leaf(const at::Tensor& tensor, bool differentiable) {
  if (!tensor.defined()) return tensor;
  at::Tensor leaf = tensor.detach();
  if (differentiable) leaf.set_requires_grad(true);
  return leaf;
}

Tensors make_leaves(const VisitSettings& settings, const Tensors& inputs,
                    const std::vector<char>& differentiable) {
  Tensors leaves;
  leaves.reserve(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i)
    leaves.push_back(make_leaf(inputs[i], settings.training && differentiable[i]));
  return leaves;
}

/// How often each tensor has been written to.
std::vector<std::int64_t> versions(const Tensors& tensors) {
  std::vector<std::int64_t> all;
  for (const at::Tensor& tensor : tensors)
    all.push_back(tensor.defined() && !tensor.is_inference() ? tensor._version() : 0);
  return all;
}

bool can_have_gradient(const at::Tensor& tensor) {
  return tensor.defined() && (tensor.is_floating_point() || tensor.is_complex());
}

at::Tensor loss_of(const VisitSettings& settings, const Tensors& outputs) {
  if (!settings.loss) return {};
  static const Tensors kNoTargets;
  at::Tensor loss = (*settings.loss)(outputs, settings.targets ? *settings.targets : kNoTargets);
  if (!loss.defined() || loss.numel() != 1)
    throw InvalidConfig("the loss of a micro-batch must be one number, it has " +
                        std::to_string(loss.defined() ? loss.numel() : 0) + " elements");
  if (c10::GradMode::is_enabled() && !loss.requires_grad())
    throw InvalidConfig(
        "the loss of a micro-batch depends on nothing that can be trained: look for detach(), for operations "
        "without gradients such as argmax(), and for parameters that require none; evaluate() needs no such "
        "loss");
  return loss;
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

}  // namespace

/// What a forward pass leaves.
struct Visit::Forward {
  Tensors outputs;
  at::Tensor loss;
  std::unique_ptr<StageBackward> backward;  ///< null without a graph
  std::unique_ptr<StageGraph> loss_graph;   ///< of the loss alone, where the stage has a backward of its own

  static Forward run(const VisitSettings& settings, const Tensors& inputs, bool with_graph) {
    const c10::AutoGradMode grad_mode(with_graph);
    const RandomScope random(settings.random_seed);
    Forward forward;
    if (with_graph) forward.backward = settings.stage.forward_with_backward(inputs, forward.outputs);
    if (forward.backward) {
      forward.add_loss(settings);
      return forward;
    }
    forward.outputs = settings.stage.forward(with_graph ? not_leaves(inputs) : inputs);
    forward.loss = loss_of(settings, forward.outputs);
    if (with_graph)
      forward.backward =
          std::make_unique<StageGraph>(inputs, settings.loss ? Tensors{forward.loss} : forward.outputs);
    return forward;
  }

  /// After a forward whose outputs are in no graph.
  void add_loss(const VisitSettings& settings) {
    if (!settings.loss) return;
    Tensors leaves;
    for (const at::Tensor& output : outputs) leaves.push_back(make_leaf(output, can_have_gradient(output)));
    loss = loss_of(settings, not_leaves(leaves));
    loss_graph = std::make_unique<StageGraph>(leaves, Tensors{loss});
  }

  /// From the loss's gradient to the outputs', where the stage's own backward starts from those.
  Tensors through_loss(const Tensors& gradients) const {
    return loss_graph ? loss_graph->backward(gradients) : gradients;
  }
};

/// The way back. Where the forward is to run again it holds the inputs until then.
class Visit::Backward {
 public:
  Backward(const VisitSettings& settings, Forward forward)
      : settings_(settings), forward_(std::move(forward)) {}
  Backward(const VisitSettings& settings, Tensors inputs) : settings_(settings), inputs_(std::move(inputs)) {}

  /// The forward's own, run again if need be.
  const Forward& forward() {
    if (!forward_.backward) {
      const KeepBuffers keep(settings_.stage);
      forward_ = Forward::run(settings_, inputs_, true);
      forward_.outputs.clear();
      inputs_.clear();
    }
    return forward_;
  }

  bool is_autograd() const { return dynamic_cast<StageGraph*>(forward_.backward.get()) != nullptr; }

 private:
  const VisitSettings settings_;
  Forward forward_;
  Tensors inputs_;
};

Visit::Visit(Visit&&) noexcept = default;
Visit::~Visit() = default;

Visit::Visit(const VisitSettings& settings, const Tensors& inputs, const std::vector<char>& differentiable) {
  Tensors leaves = make_leaves(settings, inputs, differentiable);
  const bool has_graph = settings.training && !settings.recompute;
  const std::vector<std::int64_t> before = versions(leaves);
  adopt(settings, Forward::run(settings, leaves, has_graph), has_graph);
  if (!settings.training || !settings.recompute) return;
  if (versions(leaves) != before)
    throw InvalidConfig(
        "this stage writes to its inputs in place, so that its forward cannot run again: let it write to a "
        "copy, or take it out of PipelineOptions::recompute");
  backward_ = std::make_unique<Backward>(settings, std::move(leaves));
}

/// Without a graph, and for a stage that has a backward of its own, it is not known which outputs have
/// gradients: then all that can, and what comes back for others is not used.
void Visit::adopt(const VisitSettings& settings, Forward forward, bool has_graph) {
  const bool is_autograd = dynamic_cast<StageGraph*>(forward.backward.get()) != nullptr;
  differentiable_outputs_.reserve(forward.outputs.size());
  outputs_.reserve(forward.outputs.size());
  for (const at::Tensor& output : forward.outputs) {
    const bool differentiable =
        is_autograd ? output.defined() && output.requires_grad() : can_have_gradient(output);
    differentiable_outputs_.push_back(settings.training && differentiable);
    outputs_.push_back(output.defined() ? output.detach() : output);
  }
  forward.outputs.clear();
  if (forward.loss.defined()) loss_ = forward.loss.detach();
  forward.loss.reset();
  if (has_graph) backward_ = std::make_unique<Backward>(settings, std::move(forward));
}

Visit Visit::overlap(const VisitSettings& settings, const Tensors& inputs,
                     const std::vector<char>& differentiable, Visit& other, const Tensors& output_gradients,
                     Tensors& input_gradients) {
  const Forward& behind = other.backward_->forward();
  const Tensors gradients = behind.through_loss(output_gradients);
  if (!settings.recompute && !dynamic_cast<StageGraph*>(behind.backward.get())) {
    const c10::AutoGradMode grad_mode(true);
    const RandomScope random(settings.random_seed);
    Forward forward;
    forward.backward = settings.stage.overlap(make_leaves(settings, inputs, differentiable), forward.outputs,
                                              *behind.backward, gradients, input_gradients);
    if (forward.backward) {
      forward.add_loss(settings);
      Visit visit;
      visit.adopt(settings, std::move(forward), true);
      return visit;
    }
  }
  Visit visit(settings, inputs, differentiable);
  input_gradients = behind.backward->backward(gradients);
  return visit;
}

bool Visit::can_overlap() const {
  return !backward_->is_autograd();
}

Tensors Visit::backward(const Tensors& output_gradients) {
  const Forward& forward = backward_->forward();
  return forward.backward->backward(forward.through_loss(output_gradients));
}

Tensors Visit::input_gradients(const Tensors& output_gradients) {
  const Forward& forward = backward_->forward();
  return forward.backward->input_gradients(forward.through_loss(output_gradients));
}

void Visit::weight_gradients() {
  backward_->forward().backward->weight_gradients();
}

}  // namespace counterflow::runtime
