#include "weight_split.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/tensor.h>
#include <torch/csrc/autograd/variable.h>

#include <unordered_map>
#include <utility>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

using torch::autograd::Edge;
using torch::autograd::edge_list;
using torch::autograd::Engine;
using torch::autograd::Node;
using torch::autograd::variable_list;

/// Notes what comes into a join, after the hooks of its tensors have run.
class NoteGradient : public torch::autograd::FunctionPreHook {
 public:
  explicit NoteGradient(variable_list* noted) : noted_(noted) {}
  variable_list operator()(const variable_list& gradients) override {
    *noted_ = gradients;
    return gradients;
  }

 private:
  variable_list* noted_;
};

/// Frees what a node saved once it has run in I: W does not run it again.
class ReleaseSaved : public torch::autograd::FunctionPostHook {
 public:
  explicit ReleaseSaved(Node* node) : node_(node) {}
  variable_list operator()(const variable_list& outputs, const variable_list&) override {
    node_->release_variables();
    return outputs;
  }

 private:
  Node* node_;
};

/// The nodes from which an input can be reached.
class InputPaths {
 public:
  InputPaths(const edge_list& inputs, const edge_list& roots) {
    for (const Edge& input : inputs) leads_to_input_.emplace(input.function.get(), true);
    for (const Edge& root : roots) visit(root.function);
  }

  bool contains(const Node* node) const {
    const auto found = leads_to_input_.find(node);
    return found != leads_to_input_.end() && found->second;
  }

  /// Without the inputs' own accumulators; every node after all that it leads to.
  const std::vector<std::shared_ptr<Node>>& nodes() const { return nodes_; }

  bool is_join(const Node& node) const {
    for (const Edge& edge : node.next_edges())
      if (edge.is_valid() && !contains(edge.function.get())) return true;
    return false;
  }

 private:
  struct Frame {
    std::shared_ptr<Node> node;
    std::size_t next = 0;
    bool leads = false;
  };

  /// Depth first, without recursion: graphs are deep.
  void visit(const std::shared_ptr<Node>& root) {
    if (!root || leads_to_input_.contains(root.get())) return;
    leads_to_input_.emplace(root.get(), false);
    std::vector<Frame> stack{{root}};
    while (!stack.empty()) {
      Frame& top = stack.back();
      if (top.next == top.node->num_outputs()) {
        leads_to_input_[top.node.get()] = top.leads;
        const bool leads = top.leads;
        if (leads) nodes_.push_back(std::move(top.node));
        stack.pop_back();
        if (!stack.empty()) stack.back().leads |= leads;
        continue;
      }
      const std::shared_ptr<Node>& child = top.node->next_edge(top.next++).function;
      if (!child) continue;
      const auto [known, is_new] = leads_to_input_.emplace(child.get(), false);
      if (is_new)
        stack.push_back({child});
      else
        top.leads |= known->second;
    }
  }

  std::unordered_map<const Node*, bool> leads_to_input_;
  std::vector<std::shared_ptr<Node>> nodes_;
};

/// Takes the edges to nodes on input paths out of `edges`.
void cut(edge_list& edges, const InputPaths& paths, std::vector<Edge>& removed) {
  for (Edge& edge : edges)
    if (edge.is_valid() && paths.contains(edge.function.get()))
      removed.push_back(std::exchange(edge, Edge()));
}

/// Takes all nodes on input paths apart: what is left of each leads to parameters only.
void cut(const InputPaths& paths) {
  std::vector<Edge> removed;  // keeps every node alive until all are cut: no long chain of destructors
  for (const std::shared_ptr<Node>& node : paths.nodes()) {
    cut(node->next_edges(), paths, removed);
    // An in-place write to a view: the function inside has the same edges and expects them to agree.
    if (auto* slices = dynamic_cast<torch::autograd::CopySlices*>(node.get()); slices && slices->fn)
      cut(slices->fn->next_edges(), paths, removed);
  }
}

/// What W does not run again must not be run again: the hooks of a join have run in I.
void clear_hooks(Node& join) {
  join.pre_hooks().clear();
  join.tensor_pre_hooks().clear();
  join.retains_grad_hooks().clear();
}

}  // namespace

StageGraph::StageGraph(const Tensors& inputs, const Tensors& outputs) : inputs_(inputs) {
  output_edges_.reserve(outputs.size());
  for (const at::Tensor& output : outputs) {
    const bool in_graph = output.defined() && output.requires_grad();
    output_edges_.push_back(in_graph ? torch::autograd::impl::gradient_edge(output) : Edge());
  }
}

StageGraph::~StageGraph() = default;

std::vector<StageGraph::Root> StageGraph::roots(const Tensors& output_gradients) const {
  if (output_gradients.size() != output_edges_.size())
    throw InvalidConfig(std::to_string(output_gradients.size()) + " gradients for " +
                        std::to_string(output_edges_.size()) + " outputs");
  std::vector<Root> roots;
  for (std::size_t i = 0; i < output_edges_.size(); ++i)
    if (output_edges_[i].is_valid() && output_gradients[i].defined())
      roots.push_back({output_edges_[i], output_gradients[i]});
  return roots;
}

namespace {

bool needs_gradient(const at::Tensor& input) {
  return input.defined() && input.requires_grad();
}

}  // namespace

Tensors StageGraph::backward(const Tensors& output_gradients) {
  edge_list from;
  variable_list gradients;
  for (Root& root : roots(output_gradients)) {
    from.push_back(std::move(root.edge));
    gradients.push_back(std::move(root.gradient));
  }
  output_edges_.clear();
  if (!from.empty()) {
    constexpr bool keep_graph = false;
    constexpr bool create_graph = false;
    constexpr bool accumulate = true;
    Engine::get_default_engine().execute(from, gradients, keep_graph, create_graph, accumulate);
  }
  Tensors input_gradients(inputs_.size());
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    if (needs_gradient(inputs_[i])) input_gradients[i] = std::move(inputs_[i].mutable_grad());
  inputs_.clear();
  return input_gradients;
}

Tensors StageGraph::input_gradients(const Tensors& output_gradients) {
  edge_list inputs;
  for (const at::Tensor& input : inputs_)
    if (needs_gradient(input)) inputs.push_back(torch::autograd::impl::gradient_edge(input));
  edge_list from;
  for (const Edge& edge : output_edges_)
    if (edge.is_valid()) from.push_back(edge);
  const InputPaths paths(inputs, from);

  from.clear();
  variable_list gradients;
  for (Root& root : roots(output_gradients)) {
    if (paths.contains(root.edge.function.get())) {
      from.push_back(std::move(root.edge));
      gradients.push_back(std::move(root.gradient));
    } else {
      rest_.push_back(std::move(root));
    }
  }

  std::vector<std::pair<std::shared_ptr<Node>, std::unique_ptr<variable_list>>> joins;
  for (const std::shared_ptr<Node>& node : paths.nodes()) {
    if (paths.is_join(*node)) {
      joins.emplace_back(node, std::make_unique<variable_list>());
      node->add_pre_hook(std::make_unique<NoteGradient>(joins.back().second.get()));
    } else {
      node->add_post_hook(std::make_unique<ReleaseSaved>(node.get()));
    }
  }

  variable_list captured(inputs.size());
  if (!from.empty()) {
    constexpr bool keep_graph = true;
    constexpr bool create_graph = false;
    constexpr bool accumulate = false;
    captured =
        Engine::get_default_engine().execute(from, gradients, keep_graph, create_graph, accumulate, inputs);
  }
  from.clear();
  output_edges_.clear();
  cut(paths);
  for (auto& [node, noted] : joins) {
    clear_hooks(*node);
    for (std::size_t k = 0; k < noted->size(); ++k)
      if ((*noted)[k].defined())
        rest_.push_back({Edge(node, static_cast<std::uint32_t>(k)), std::move((*noted)[k])});
  }

  Tensors input_gradients(inputs_.size());
  for (std::size_t i = 0, k = 0; i < inputs_.size(); ++i)
    if (needs_gradient(inputs_[i])) input_gradients[i] = std::move(captured[k++]);
  inputs_.clear();
  return input_gradients;
}

void StageGraph::weight_gradients() {
  edge_list from;
  variable_list gradients;
  for (Root& root : rest_) {
    from.push_back(std::move(root.edge));
    gradients.push_back(std::move(root.gradient));
  }
  rest_.clear();
  if (from.empty()) return;
  constexpr bool keep_graph = false;
  constexpr bool create_graph = false;
  constexpr bool accumulate = true;
  Engine::get_default_engine().execute(from, gradients, keep_graph, create_graph, accumulate);
}

}  // namespace counterflow::runtime
