// A byte-level GPT that can be cut into stages between any two of its blocks.
//
// Parameters have the same names and the same first values however the model is cut: a stage that holds block
// 3 calls its parameters "blocks.3.…".
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace train_gpt {

constexpr std::int64_t kVocabulary = 256;  // bytes

struct ModelOptions {
  std::int64_t layers = 8;
  std::int64_t dim = 192;
  std::int64_t heads = 6;
  std::int64_t context = 128;  ///< bytes that a prediction can look back at
  double dropout = 0;
  bool tied = false;  ///< predictions use the embedding's matrix
  std::uint64_t seed = 1;
  at::Device device = at::kCPU;  ///< where stages and their inputs are

  std::int64_t num_parameters() const;

  /// Throws counterflow::InvalidConfig where the numbers do not fit together.
  void check() const;
};

/// The blocks of a stage. The first stage also embeds, the last one also predicts.
struct Slice {
  std::int64_t first_block = 0;
  std::int64_t num_blocks = 0;
  bool embeds = false;
  bool predicts = false;
};

/// The parameter that the first stage embeds with and the one that the last predicts with.
constexpr const char* kEmbedding = "token.weight";
constexpr const char* kHead = "head.weight";

/// Cuts the model so that the costliest stage costs as little as can be: the embedding and the prediction
/// count too. Throws counterflow::InvalidConfig where there are fewer blocks than stages.
std::vector<Slice> cut(const ModelOptions& options, int num_stages);

/// What attention adds to the scores of heads × reader × read: minus infinity for bytes to come, and the less
/// the further back a byte is, by a slope that halves from group to group of heads (ALiBi: Press, Smith and
/// Lewis, 2022). It stands in for embeddings of positions.
at::Tensor attention_bias(const ModelOptions& options);

/// Causal self-attention and a two-layer perceptron, each behind a layer norm and beside a residual.
class Block : public torch::nn::Module {
 public:
  /// `bias` is attention_bias(options), which all blocks of a stage share.
  Block(const ModelOptions& options, at::Tensor bias);

  /// The two halves, to be called one after the other.
  at::Tensor attention(const at::Tensor& x);
  at::Tensor perceptron(const at::Tensor& x);

 private:
  at::Tensor attend(const at::Tensor& x);

  std::int64_t heads_;
  double dropout_;
  at::Tensor bias_;
  torch::nn::LayerNorm attention_norm_, mlp_norm_;
  torch::nn::Linear query_key_value_, attention_out_, mlp_in_, mlp_out_;
};

/// A part of a stage, from the activations that the part before it gives.
struct Layer {
  std::string name;
  std::function<at::Tensor(const at::Tensor&)> forward;
};

/// A slice of the model: from bytes (batch × length, int64) or activations (batch × length × dim) to
/// activations or logits (batch × length × 256).
class GptStage : public torch::nn::Module {
 public:
  GptStage(const ModelOptions& options, const Slice& slice);

  /// To be called one after the other while the stage lives: the first takes its input, the last gives its
  /// output.
  std::vector<Layer> layers();

  at::Tensor forward(const at::Tensor& input);

 private:
  double dropout_;
  std::int64_t first_block_;
  torch::nn::Embedding token_ = nullptr;
  std::vector<std::shared_ptr<Block>> blocks_;
  torch::nn::LayerNorm norm_ = nullptr;
  torch::nn::Linear head_ = nullptr;
};

/// The mean loss in nats a byte: of logits, and the bytes that should have been predicted (batch × length).
at::Tensor loss(const at::Tensor& logits, const at::Tensor& targets);

}  // namespace train_gpt
