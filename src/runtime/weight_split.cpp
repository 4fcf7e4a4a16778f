#include "weight_split.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/tensor.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <typeindex>
#include <typeinfo>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "counterflow/error.h"
#include "fused_sums.h"

namespace counterflow::runtime {
namespace {

using torch::autograd::Edge;
using torch::autograd::edge_list;
using torch::autograd::Engine;
using torch::autograd::Node;
using torch::autograd::variable_list;

constexpr bool kKeepGraph = true;
constexpr bool kFreeGraph = false;
constexpr bool kAccumulate = true;  ///< into parameters' gradients
constexpr bool kCapture = false;    ///< only what comes to the wanted edges

variable_list execute(const edge_list& roots, const variable_list& gradients, bool keep_graph,
                      bool accumulate, const edge_list& wanted = {}) {
  constexpr bool create_graph = false;
  return Engine::get_default_engine().execute(roots, gradients, keep_graph, create_graph, accumulate, wanted);
}

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

/// Whether a node's gradients for weights are better computed along with those for inputs: it would compute
/// both anyway (its operator has no mask of what is wanted), or in one pass over the data that is cheaper
/// than two and leaves less to keep (norms). Found by name: all such nodes are torch's own.
bool computes_all_at_once(const Node& node) {
  static const std::set<std::string_view> kNames{
      "BatchNormWithUpdateBackward0", "CudnnBatchNormBackward0",  "CudnnRnnBackward0",
      "FusedRmsNormBackward0",        "MiopenBatchNormBackward0", "MiopenRnnBackward0",
      "MkldnnRnnLayerBackward0",      "NativeBatchNormBackward0", "NativeGroupNormBackward0",
      "NativeLayerNormBackward0",     "PreluKernelBackward0",     "ThnnFusedGruCellBackward0",
      "ThnnFusedLstmCellBackward0"};
  thread_local std::unordered_map<std::type_index, bool> known;  // names are slow to come by
  const auto [entry, is_new] = known.emplace(typeid(node), false);
  if (is_new) entry->second = kNames.contains(node.name());
  return entry->second;
}

/// What a stage's graph is made of, as seen from its inputs.
class InputPaths {
 public:
  InputPaths(const edge_list& inputs, const edge_list& roots) {
    for (const Edge& input : inputs) leads_to_input_.emplace(input.function.get(), true);
    for (const Edge& root : roots) visit(root.function);
    find_joins(roots);
  }

  /// Whether an input can be reached from the node.
  bool contains(const Node* node) const {
    const auto found = leads_to_input_.find(node);
    return found != leads_to_input_.end() && found->second;
  }

  /// The nodes from which an input can be reached, without the inputs' own.
  const std::vector<std::shared_ptr<Node>>& nodes() const { return nodes_; }

  /// Those of them that W runs again.
  const std::vector<std::shared_ptr<Node>>& joins() const { return joins_; }

  /// The edges at which W goes on from joins that it does not run again, since I runs them whole.
  const edge_list& continued() const { return continued_; }

 private:
  struct Frame {
    std::shared_ptr<Node> node;
    std::size_t next = 0;
    bool leads = false;
  };

  /// Depth first, without recursion: graphs are deep.
  void visit(const std::shared_ptr<Node>& root) {
    if (!root || !leads_to_input_.emplace(root.get(), false).second) return;
    std::vector<Frame> stack{{root}};
    while (!stack.empty()) {
      Frame& top = stack.back();
      if (top.next == top.node->num_outputs()) {
        const bool leads = top.leads;
        leads_to_input_[top.node.get()] = leads;
        (leads ? nodes_ : others_).push_back(std::move(top.node));
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

  bool leaves(const Edge& edge) const { return edge.is_valid() && !contains(edge.function.get()); }

  /// Joins are the nodes with an edge that leaves. One that computes all at once is run whole by I, unless
  /// what it leads to gets gradients from elsewhere too, or has hooks, which would run twice.
  void find_joins(const edge_list& roots) {
    std::unordered_set<const Node*> whole;
    for (const std::shared_ptr<Node>& node : nodes_) {
      bool is_join = false;
      for (const Edge& edge : node->next_edges()) is_join |= leaves(edge);
      if (!is_join) continue;
      joins_.push_back(node);
      if (computes_all_at_once(*node)) whole.insert(node.get());
    }
    if (whole.empty()) return;
    while (drop_shared(whole, roots)) {
    }
    const auto is_whole = [&](const std::shared_ptr<Node>& node) { return whole.contains(node.get()); };
    for (const std::shared_ptr<Node>& node : joins_) {
      if (!is_whole(node)) continue;
      for (const Edge& edge : node->next_edges())
        if (leaves(edge) && std::find(continued_.begin(), continued_.end(), edge) == continued_.end())
          continued_.push_back(edge);
    }
    joins_.erase(std::remove_if(joins_.begin(), joins_.end(), is_whole), joins_.end());
  }

  /// Takes out of `whole` the nodes that lead to a node which is not theirs alone. True where there were any.
  bool drop_shared(std::unordered_set<const Node*>& whole, const edge_list& roots) const {
    std::unordered_set<const Node*> shared;
    for (const Edge& root : roots) shared.insert(root.function.get());
    for (const auto* nodes : {&nodes_, &others_}) {
      for (const std::shared_ptr<Node>& node : *nodes) {
        if (whole.contains(node.get())) continue;
        for (const Edge& edge : node->next_edges()) shared.insert(edge.function.get());
      }
    }
    return std::erase_if(whole, [&](const Node* node) {
             for (const Edge& edge : node->next_edges()) {
               if (!leaves(edge)) continue;
               Node& next = *edge.function;
               if (shared.contains(&next) || !next.tensor_pre_hooks().empty() ||
                   !next.retains_grad_hooks().empty())
                 return true;
             }
             return false;
           }) > 0;
  }

  std::unordered_map<const Node*, bool> leads_to_input_;
  std::vector<std::shared_ptr<Node>> nodes_;
  std::vector<std::shared_ptr<Node>> others_;
  std::vector<std::shared_ptr<Node>> joins_;
  edge_list continued_;
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
    if (FusingSums::is_on()) fuse_sums(from);
    execute(from, gradients, kFreeGraph, kAccumulate);
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

  std::vector<variable_list> noted(paths.joins().size());
  std::unordered_set<const Node*> joins;
  for (std::size_t i = 0; i < noted.size(); ++i) {
    Node& join = *paths.joins()[i];
    join.add_pre_hook(std::make_unique<NoteGradient>(&noted[i]));
    joins.insert(&join);
  }
  for (const std::shared_ptr<Node>& node : paths.nodes())
    if (!joins.contains(node.get())) node->add_post_hook(std::make_unique<ReleaseSaved>(node.get()));

  edge_list wanted = inputs;
  wanted.insert(wanted.end(), paths.continued().begin(), paths.continued().end());
  variable_list captured(wanted.size());
  if (!from.empty()) captured = execute(from, gradients, kKeepGraph, kCapture, wanted);
  output_edges_.clear();
  for (std::size_t k = 0; k < paths.continued().size(); ++k)
    if (captured[inputs.size() + k].defined())
      rest_.push_back({paths.continued()[k], std::move(captured[inputs.size() + k])});
  cut(paths);
  for (std::size_t i = 0; i < noted.size(); ++i) {
    clear_hooks(*paths.joins()[i]);
    for (std::size_t k = 0; k < noted[i].size(); ++k)
      if (noted[i][k].defined())
        rest_.push_back({Edge(paths.joins()[i], static_cast<std::uint32_t>(k)), std::move(noted[i][k])});
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
  if (FusingSums::is_on()) fuse_sums(from);
  execute(from, gradients, kFreeGraph, kAccumulate);
}

}  // namespace counterflow::runtime
