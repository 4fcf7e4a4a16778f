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

#include "counterflow/runtime/stage.h"

namespace counterflow::runtime {

/// The autograd graph of one forward pass of one micro-batch. The gradients given to input_gradients() must
/// not be changed before weight_gradients() has run.
class StageGraph : public StageBackward {
 public:
  /// From the inputs, leaves of the graph (those that need no gradient may be among them or undefined), to
  /// the outputs. Holds the graph, not the outputs.
  StageGraph(const Tensors& inputs, const Tensors& outputs);

  ~StageGraph() override;

  Tensors backward(const Tensors& output_gradients) override;
  Tensors input_gradients(const Tensors& output_gradients) override;
  void weight_gradients() override;

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
