// A stage's backward pass, whole (B) or in its two halves (I and W), on unmodified torch modules.
//
// The gradient graph is cut where it leaves the paths to the inputs. A node on such a path with another edge
// leading away (to parameters) is a *join*: I runs it for its input's sake only and notes the gradient that
// comes into it; W runs it again, from that gradient, for the rest. Linear, convolution and attention skip
// the matrix products whose results nobody asked for, so that I and W together compute what B computes, bit
// for bit. Between I and W only the joins and what lies behind them is kept.
//
// Belongs to one thread at a time.
#pragma once

#include <torch/csrc/autograd/edge.h>

#include <memory>
#include <vector>

#include "counterflow/runtime/tensors.h"

namespace counterflow::runtime {

/// The graph of one forward pass of one micro-batch. Run backward() once, or input_gradients() once and then
/// weight_gradients() once. Parameters' gradients accumulate as torch's backward does it.
class StageGraph {
 public:
  StageGraph() = default;

  /// From the inputs, leaves of the graph (those that need no gradient may be among them or undefined), to
  /// the outputs. Holds the graph, not the outputs.
  StageGraph(const Tensors& inputs, const Tensors& outputs);

  StageGraph(StageGraph&&) noexcept;
  StageGraph& operator=(StageGraph&&) noexcept;
  ~StageGraph();

  /// B: from the gradients of the outputs (undefined where there is none) to those of the inputs, in the
  /// order of the inputs, undefined where there is none. Frees the graph.
  Tensors backward(const Tensors& output_gradients);

  /// I: the same, without parameters' gradients.
  Tensors input_gradients(const Tensors& output_gradients);

  /// W: the rest. Frees the graph. The gradients given to input_gradients() must not have been changed.
  void weight_gradients();

 private:
  struct Root {
    torch::autograd::Edge edge;
    at::Tensor gradient;
  };

  std::vector<Root> roots(const Tensors& output_gradients) const;

  Tensors inputs_;
  std::vector<torch::autograd::Edge> output_edges_;
  std::vector<Root> rest_;  ///< where W starts
};

}  // namespace counterflow::runtime
