#include "counterflow/runtime/pieces.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace counterflow::runtime {
namespace {

std::string text(const std::vector<PieceStep>& order, const std::vector<Lane>& forward,
                 const std::vector<Lane>& backward, Lane lane) {
  static const char* const kNames[] = {"attention", "dispatch", "mlp", "combine"};
  std::string all;
  for (const PieceStep& step : order) {
    const bool is_forward = step.part == Part::kForward;
    if ((is_forward ? forward : backward)[step.piece] != lane) continue;
    if (lane == Lane::kCommunication && step.part == Part::kWeightGradient) continue;
    all += std::string(all.empty() ? "" : " ") + kNames[step.piece] + "(" +
           "FIW"[static_cast<int>(step.part)] + ")";
  }
  return all;
}

// DeepSeek's published trace: combine(B) attention(F) mlp(B) dispatch(F) mlp(W) dispatch(B) mlp(F) combine(F)
// attention(B) attention(W).
TEST(PiecesTest, InterleavesALayerAsDeepSeekDoes) {
  const std::vector<Lane> layer{Lane::kCompute, Lane::kCommunication, Lane::kCompute, Lane::kCommunication};
  const std::vector<PieceStep> order = interleave(layer, layer);
  EXPECT_EQ(text(order, layer, layer, Lane::kCompute),
            "attention(F) mlp(I) mlp(W) mlp(F) attention(I) attention(W)");
  EXPECT_EQ(text(order, layer, layer, Lane::kCommunication), "combine(I) dispatch(F) dispatch(I) combine(F)");
}

TEST(PiecesTest, OrdersHoldEveryPartOnceAndInTurn) {
  for (std::size_t forward = 0; forward < 7; ++forward) {
    for (std::size_t backward = 0; backward < 7; ++backward) {
      for (int lanes = 0; lanes < 1 << 6; ++lanes) {
        const auto lane = [lanes](std::size_t i) {
          return (lanes >> i) & 1 ? Lane::kCommunication : Lane::kCompute;
        };
        std::vector<Lane> f, b;
        for (std::size_t i = 0; i < forward; ++i) f.push_back(lane(i % 6));
        for (std::size_t i = 0; i < backward; ++i) b.push_back(lane((i + 2) % 6));
        int next_f = 0;
        int next_i = static_cast<int>(backward) - 1;
        std::vector<char> weights(backward, false);
        for (const PieceStep& step : interleave(f, b)) {
          if (step.part == Part::kForward) {
            EXPECT_EQ(step.piece, next_f++);
          } else if (step.part == Part::kInputGradient) {
            EXPECT_EQ(step.piece, next_i--);
          } else {
            EXPECT_GT(step.piece, next_i) << "W before its I";
            EXPECT_FALSE(weights[step.piece]);
            weights[step.piece] = true;
          }
        }
        EXPECT_EQ(next_f, static_cast<int>(forward));
        EXPECT_EQ(next_i, -1);
        for (const char done : weights) EXPECT_TRUE(done);
      }
    }
  }
}

/// A stage of three pieces that note what runs.
std::shared_ptr<Stage> noting_stage(std::vector<std::string>& notes, const at::Tensor& a,
                                    const at::Tensor& b) {
  const auto note = [&notes](const std::string& name, auto f) {
    return [&notes, name, f](const Tensors& x) {
      notes.push_back(name);
      return Tensors{f(x.at(0))};
    };
  };
  return make_stage(
      {{"a", Lane::kCompute, note("a", [a](const at::Tensor& x) { return at::mm(x, a).tanh(); })},
       {"exchange", Lane::kCommunication, note("exchange", [](const at::Tensor& x) { return x.flip(0); })},
       {"b", Lane::kCompute, note("b", [b](const at::Tensor& x) { return at::mm(x, b).tanh(); })}},
      nullptr);
}

TEST(PiecesTest, AStageOfPiecesComputesWhatTheWholeDoes) {
  at::manual_seed(1);
  const at::Tensor a = torch::randn({4, 4}).requires_grad_();
  const at::Tensor b = torch::randn({4, 4}).requires_grad_();
  const at::Tensor x = torch::randn({3, 4}).requires_grad_();
  const at::Tensor gradient = torch::randn({3, 4});
  const at::Tensor expected = at::mm(at::mm(x, a).tanh().flip(0), b).tanh();
  expected.backward(gradient);
  const std::vector<at::Tensor> gradients{x.grad(), a.grad(), b.grad()};

  for (const bool split : {false, true}) {
    for (const at::Tensor& leaf : {x, a, b}) leaf.mutable_grad() = at::Tensor();
    std::vector<std::string> notes;
    const auto stage = noting_stage(notes, a, b);
    Tensors outputs;
    const auto backward = stage->forward_with_backward({x}, outputs);
    EXPECT_TRUE(outputs.at(0).equal(expected));
    const Tensors inputs = split ? backward->input_gradients({gradient}) : backward->backward({gradient});
    if (split) {
      EXPECT_FALSE(a.grad().defined());
      backward->weight_gradients();
    }
    EXPECT_TRUE(inputs.at(0).equal(gradients[0]));
    EXPECT_TRUE(a.grad().equal(gradients[1]));
    EXPECT_TRUE(b.grad().equal(gradients[2]));
    EXPECT_TRUE(stage->forward({x}).at(0).equal(expected));
  }
}

TEST(PiecesTest, OverlapsAForwardWithABackward) {
  at::manual_seed(1);
  const at::Tensor a = torch::randn({4, 4}).requires_grad_();
  const at::Tensor b = torch::randn({4, 4}).requires_grad_();
  const at::Tensor first = torch::randn({3, 4}).requires_grad_();
  const at::Tensor second = torch::randn({3, 4}).requires_grad_();
  std::vector<std::string> notes;
  const auto stage = noting_stage(notes, a, b);
  b.register_hook([&notes](const at::Tensor&) { notes.push_back("W of b"); });

  Tensors outputs;
  const auto behind = stage->forward_with_backward({first}, outputs);
  notes.clear();
  Tensors gradients;
  const auto ahead = stage->overlap({second}, outputs, *behind, {torch::ones({3, 4})}, gradients);
  ASSERT_TRUE(ahead);
  EXPECT_EQ(notes, (std::vector<std::string>{"a", "W of b", "exchange", "b"}));
  EXPECT_TRUE(outputs.at(0).equal(stage->forward({second}).at(0)));
  stage->forward({first}).at(0).backward(torch::ones({3, 4}));
  EXPECT_TRUE(gradients.at(0).equal(first.grad()));
}

}  // namespace
}  // namespace counterflow::runtime
