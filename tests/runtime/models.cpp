#include "models.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros.h>

#include <string>

namespace models {
namespace {

constexpr int kWidth = 8;
constexpr int kTokens = 4;
constexpr int kVocabulary = 11;

/// Numbers that look random and are the same everywhere.
at::Tensor numbers(at::IntArrayRef sizes, double start, double scale) {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  return at::arange(count, at::kDouble).mul(1.7).add(start).sin().mul(37).sin().mul(scale).view(sizes);
}

struct Linears : StageModule {
  Linears(int index, int layers) {
    for (int i = 0; i < layers; ++i) {
      const std::string name = std::to_string(i);
      register_parameter("weight" + name, numbers({kWidth, kWidth}, 3.1 * index + i, 0.6));
      register_parameter("bias" + name, numbers({kWidth}, 2.3 * index + i + 0.5, 0.3));
    }
  }

  Tensors forward(const Tensors& inputs) override {
    at::Tensor x = inputs.at(0);
    const std::vector<at::Tensor> all = parameters();
    for (std::size_t i = 0; i < all.size(); i += 2) x = at::linear(x, all[i], all[i + 1]).tanh();
    return {x};
  }

  std::vector<std::function<Tensors(const Tensors&)>> pieces() override {
    std::vector<std::function<Tensors(const Tensors&)>> all;
    const std::vector<at::Tensor> tensors = parameters();
    for (std::size_t i = 0; i < tensors.size(); i += 2) {
      all.push_back([w = tensors[i], b = tensors[i + 1]](const Tensors& x) {
        return Tensors{at::linear(x.at(0), w, b)};
      });
      all.push_back([](const Tensors& x) { return Tensors{x.at(0).tanh()}; });
    }
    return all;
  }
};

struct Mlp : Model {
  using Model::Model;
  std::shared_ptr<StageModule> stage(int index) const override {
    return std::make_shared<Linears>(index, 1 + index % 2);
  }
  Tensors input(int step, int m) const override { return {numbers({2, kWidth}, step + 0.3 * m, 1)}; }
  Tensors target(int step, int m) const override { return {numbers({2, kWidth}, step + 0.4 * m + 2, 1)}; }
  at::Tensor loss(const Tensors& outputs, const Tensors& targets) const override {
    return at::mse_loss(outputs.at(0), targets.at(0));
  }
};

struct AddWeights : StageModule {
  AddWeights() { register_parameter("weight", at::zeros({kWidth}, at::kDouble)); }
  Tensors forward(const Tensors& inputs) override { return {inputs.at(0) + parameters().at(0)}; }
};

struct Counter : Model {
  using Model::Model;
  std::shared_ptr<StageModule> stage(int) const override { return std::make_shared<AddWeights>(); }
  Tensors input(int, int) const override { return {at::zeros({kWidth}, at::kDouble)}; }
  Tensors target(int, int) const override { return {at::zeros({kWidth}, at::kDouble)}; }
  at::Tensor loss(const Tensors& outputs, const Tensors&) const override { return outputs.at(0).sum(); }
};

/// Attention and two linear layers with norms before them.
struct Block {
  at::Tensor norm1, qkv, out, norm2, up, down;
};

struct GptStage : StageModule {
  GptStage(int index, int num_stages, double dropout_rate)
      : is_first(index == 0), is_last(index == num_stages - 1), dropout(dropout_rate) {
    if (is_first) embedding = register_parameter("embedding", numbers({kVocabulary, kWidth}, 0.1, 0.5));
    for (int i = 0; i < 1 + index % 2; ++i) {
      const std::string name = std::to_string(i) + ".";
      const double start = 5.3 * index + i;
      const auto parameter = [&](const char* part, at::IntArrayRef sizes, double at, double scale) {
        return register_parameter(std::to_string(i) + part, numbers(sizes, start + at, scale));
      };
      blocks.push_back({parameter("norm1", {kWidth}, 0.1, 1),
                        parameter("qkv", {3 * kWidth, kWidth}, 0.2, 0.4),
                        parameter("out", {kWidth, kWidth}, 0.3, 0.4), parameter("norm2", {kWidth}, 0.4, 1),
                        parameter("up", {2 * kWidth, kWidth}, 0.5, 0.4),
                        parameter("down", {kWidth, 2 * kWidth}, 0.6, 0.4)});
    }
    if (is_last) head = register_parameter("head", numbers({kVocabulary, kWidth}, 0.1, 0.5));
  }

  /// Takes tokens first, then activations and tokens; gives the same, the last stage logits.
  Tensors forward(const Tensors& inputs) override {
    const at::Tensor& tokens = inputs.back();
    at::Tensor x = is_first ? at::embedding(embedding, tokens) : inputs.at(0);
    for (const Block& block : blocks) x = run(block, x);
    if (is_last) return {at::linear(x, head)};
    return {x, tokens};
  }

  at::Tensor run(const Block& block, const at::Tensor& x) const {
    const std::int64_t batch = x.size(0);
    const at::Tensor a = at::layer_norm(x, {kWidth}, block.norm1, {}, 1e-5);
    const at::Tensor qkv =
        at::linear(a, block.qkv).view({batch, kTokens, 3, 2, kWidth / 2}).permute({2, 0, 3, 1, 4});
    at::Tensor mixed =
        at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], {}, is_training() ? dropout : 0, true);
    mixed = at::linear(mixed.transpose(1, 2).reshape({batch, kTokens, kWidth}), block.out);
    const at::Tensor y = x + at::dropout(mixed, dropout, is_training());
    const at::Tensor b = at::layer_norm(y, {kWidth}, block.norm2, {}, 1e-5);
    return y + at::dropout(at::linear(at::gelu(at::linear(b, block.up)), block.down), dropout, is_training());
  }

  bool is_first;
  bool is_last;
  double dropout;
  at::Tensor embedding;
  at::Tensor head;
  std::vector<Block> blocks;
};

struct Gpt : Model {
  Gpt(int stages, double dropout_rate) : Model(stages), dropout(dropout_rate) {}
  std::shared_ptr<StageModule> stage(int index) const override {
    return std::make_shared<GptStage>(index, num_stages, dropout);
  }
  static at::Tensor tokens(double start) {
    return numbers({2, kTokens}, start, 1)
        .add(1)
        .mul(0.5 * kVocabulary)
        .to(at::kLong)
        .clamp(0, kVocabulary - 1);
  }
  Tensors input(int step, int m) const override { return {tokens(step + 0.3 * m)}; }
  Tensors target(int step, int m) const override { return {tokens(step + 0.3 * m + 1.7)}; }
  at::Tensor loss(const Tensors& outputs, const Tensors& targets) const override {
    return at::cross_entropy_loss(outputs.at(0).view({-1, kVocabulary}), targets.at(0).view({-1}));
  }
  std::vector<const char*> tied() const override { return {"embedding", "head"}; }
  double dropout;
};

}  // namespace

std::vector<std::shared_ptr<StageModule>> Model::stages() const {
  std::vector<std::shared_ptr<StageModule>> all;
  for (int i = 0; i < num_stages; ++i) all.push_back(stage(i));
  return all;
}

std::unique_ptr<Model> mlp(int num_stages) {
  return std::make_unique<Mlp>(num_stages);
}

std::unique_ptr<Model> counter(int num_stages) {
  return std::make_unique<Counter>(num_stages);
}

std::unique_ptr<Model> gpt(int num_stages, double dropout) {
  return std::make_unique<Gpt>(num_stages, dropout);
}

}  // namespace models
