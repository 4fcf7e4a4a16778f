#include "counterflow/runtime/pieces.h"

#include <utility>

#include "counterflow/error.h"
#include "counterflow/runtime/module.h"
#include "lanes.h"
#include "leaves.h"
#include "weight_split.h"

namespace counterflow::runtime {
namespace {

/// A forward through pieces, each with a graph of its own.
class PieceBackward : public StageBackward {
 public:
  explicit PieceBackward(std::vector<Lane> lanes) : lanes_(std::move(lanes)) {}

  const std::vector<Lane>& lanes() const { return lanes_; }

  /// Runs the next piece's forward on what the last one gave.
  Tensors forward(const Piece& piece, const Tensors& inputs) {
    Tensors leaves;
    leaves.reserve(inputs.size());
    for (const at::Tensor& input : inputs) {
      leaves.push_back(input.defined() ? input.detach() : input);
      if (input.defined() && input.requires_grad()) leaves.back().set_requires_grad(true);
    }
    Tensors outputs = piece.forward(not_leaves(leaves));
    graphs_.push_back(std::make_unique<StageGraph>(leaves, outputs));
    return outputs;
  }

  Tensors backward(const Tensors& output_gradients) override {
    Tensors gradients = output_gradients;
    for (auto graph = graphs_.rbegin(); graph != graphs_.rend(); ++graph)
      gradients = (*graph)->backward(gradients);
    return gradients;
  }

  Tensors input_gradients(const Tensors& output_gradients) override {
    Tensors gradients = output_gradients;
    for (std::size_t i = graphs_.size(); i-- > 0;) gradients = input_gradients(i, gradients);
    return gradients;
  }

  void weight_gradients() override {
    for (std::size_t i = graphs_.size(); i-- > 0;) weight_gradients(i);
  }

  Tensors input_gradients(std::size_t piece, const Tensors& gradients) {
    return graphs_.at(piece)->input_gradients(gradients);
  }

  void weight_gradients(std::size_t piece) { graphs_.at(piece)->weight_gradients(); }

 private:
  std::vector<Lane> lanes_;
  std::vector<std::unique_ptr<StageGraph>> graphs_;
};

class PieceStage : public Stage {
 public:
  PieceStage(std::vector<Piece> pieces, std::shared_ptr<torch::nn::Module> module)
      : pieces_(std::move(pieces)),
        whole_(make_stage([this](const Tensors& x) { return run(x); }, std::move(module))) {
    if (pieces_.empty()) throw InvalidConfig("a stage of no pieces");
    for (const Piece& piece : pieces_) lanes_.push_back(piece.lane);
  }

  Tensors forward(const Tensors& inputs) override { return run(inputs); }

  std::unique_ptr<StageBackward> forward_with_backward(const Tensors& inputs, Tensors& outputs) override {
    auto backward = std::make_unique<PieceBackward>(lanes_);
    Lanes lanes(inputs);
    Progress forward = lanes.begin();
    outputs = inputs;
    for (const Piece& piece : pieces_)
      forward = lanes.run(piece.lane, forward, outputs, [&] { outputs = backward->forward(piece, outputs); });
    lanes.join(forward, outputs);
    return backward;
  }

  std::unique_ptr<StageBackward> overlap(const Tensors& inputs, Tensors& outputs, StageBackward& backward,
                                         const Tensors& output_gradients, Tensors& input_gradients) override {
    auto* other = dynamic_cast<PieceBackward*>(&backward);
    if (!other) return nullptr;
    auto mine = std::make_unique<PieceBackward>(lanes_);
    Lanes lanes(inputs);
    Progress ahead = lanes.begin();
    Progress behind = ahead;
    outputs = inputs;
    input_gradients = output_gradients;
    for (const PieceStep& step : interleave(lanes_, other->lanes())) {
      switch (step.part) {
        case Part::kForward:
          ahead = lanes.run(lanes_[step.piece], ahead, outputs,
                            [&] { outputs = mine->forward(pieces_[step.piece], outputs); });
          break;
        case Part::kInputGradient:
          behind = lanes.run(other->lanes()[step.piece], behind, input_gradients,
                             [&] { input_gradients = other->input_gradients(step.piece, input_gradients); });
          break;
        case Part::kWeightGradient:  // what it needs lies on its own lane
          lanes.run(other->lanes()[step.piece], {other->lanes()[step.piece], nullptr}, {},
                    [&] { other->weight_gradients(step.piece); });
          break;
      }
    }
    lanes.join(ahead, outputs);
    lanes.join(behind, input_gradients);
    return mine;
  }

  std::vector<NamedTensor> parameters() const override { return whole_->parameters(); }
  std::vector<NamedTensor> buffers() const override { return whole_->buffers(); }
  void begin_evaluation() override { whole_->begin_evaluation(); }
  void end_evaluation() override { whole_->end_evaluation(); }

 private:
  Tensors run(const Tensors& inputs) const {
    Tensors values = inputs;
    for (const Piece& piece : pieces_) values = piece.forward(values);
    return values;
  }

  const std::vector<Piece> pieces_;
  std::vector<Lane> lanes_;
  const std::shared_ptr<Stage> whole_;  ///< for all that concerns the module
};

}  // namespace

std::shared_ptr<Stage> make_stage(std::vector<Piece> pieces, std::shared_ptr<torch::nn::Module> module) {
  return std::make_shared<PieceStage>(std::move(pieces), std::move(module));
}

}  // namespace counterflow::runtime
