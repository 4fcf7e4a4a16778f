#include "model.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "counterflow/error.h"

namespace train_gpt {
namespace {

constexpr double kSpread = 0.05;  // standard deviation of first weights; GPT-2, which is wider, has 0.02

torch::nn::Linear linear(std::int64_t from, std::int64_t to) {
  return torch::nn::Linear(torch::nn::LinearOptions(from, to).bias(false));
}

torch::nn::LayerNorm norm(std::int64_t dim) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim}));
}

/// FNV-1a: the same on every machine.
std::uint64_t hash(std::uint64_t seed, const std::string& name) {
  std::uint64_t value = 0xcbf29ce484222325U ^ seed;
  for (const char c : name) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return value;
}

/// Each parameter has a generator of its own, so that its first value depends on the seed and its name alone.
void initialise(torch::nn::Module& module, const ModelOptions& options) {
  const c10::NoGradGuard no_grad;
  for (auto& item : module.named_parameters()) {
    at::Tensor& parameter = item.value();
    if (parameter.dim() < 2) continue;  // norms: as torch makes them, ones and zeros
    const bool ends_residual = item.key().ends_with("out.weight");
    const double spread =
        ends_residual ? kSpread / std::sqrt(2.0 * static_cast<double>(options.layers)) : kSpread;
    parameter.normal_(0, spread, at::make_generator<at::CPUGeneratorImpl>(hash(options.seed, item.key())));
  }
}

/// Multiplications for a byte, up to a factor: what a stage is weighed by.
double cost_of(const ModelOptions& options, const Slice& slice) {
  const double dim = static_cast<double>(options.dim);
  const double block = dim * (12 * dim + static_cast<double>(options.context));
  // The softmax over the vocabulary and the embedding move bytes, which counts as some multiplications each.
  const double predict = static_cast<double>(kVocabulary) * (dim + 20);
  const double embed = 8 * dim;
  return static_cast<double>(slice.num_blocks) * block + (slice.predicts ? predict : 0) +
         (slice.embeds ? embed : 0);
}

/// The slices, each as large as `most` allows; nothing left over means that `most` is enough.
std::vector<Slice> fill(const ModelOptions& options, int num_stages, double most) {
  std::vector<Slice> slices;
  std::int64_t next = 0;
  for (int stage = 0; stage < num_stages; ++stage) {
    const int stages_after = num_stages - 1 - stage;
    Slice slice{next, 1, stage == 0, stages_after == 0};
    while (next + slice.num_blocks < options.layers - stages_after) {
      Slice larger = slice;
      ++larger.num_blocks;
      if (cost_of(options, larger) > most) break;
      slice = larger;
    }
    next += slice.num_blocks;
    slices.push_back(slice);
  }
  return slices;
}

std::int64_t num_blocks(const std::vector<Slice>& slices) {
  std::int64_t sum = 0;
  for (const Slice& slice : slices) sum += slice.num_blocks;
  return sum;
}

}  // namespace

std::int64_t ModelOptions::num_parameters() const {
  const std::int64_t block = 12 * dim * dim + 4 * dim;
  return layers * block + (tied ? 1 : 2) * kVocabulary * dim + 2 * dim;
}

void ModelOptions::check() const {
  if (dim % heads != 0)
    throw counterflow::InvalidConfig("--dim " + std::to_string(dim) + " is no multiple of --heads " +
                                     std::to_string(heads));
}

std::vector<Slice> cut(const ModelOptions& options, int num_stages) {
  if (options.layers < num_stages)
    throw counterflow::InvalidConfig("the schedule has " + std::to_string(num_stages) +
                                     " stages, each of which needs a block: --layers " +
                                     std::to_string(options.layers) + " is too few");
  // The costliest stage of the best cut is one of these: so many blocks, in the first, a middle or the last.
  std::vector<double> candidates;
  for (std::int64_t blocks = 1; blocks <= options.layers; ++blocks)
    for (const bool embeds : {false, true})
      for (const bool predicts : {false, true})
        candidates.push_back(cost_of(options, {0, blocks, embeds, predicts}));
  std::sort(candidates.begin(), candidates.end());
  for (const double most : candidates) {
    std::vector<Slice> slices = fill(options, num_stages, most);
    if (num_blocks(slices) == options.layers) return slices;
  }
  return {};  // not reached: all blocks in one stage is a candidate
}

at::Tensor attention_bias(const ModelOptions& options) {
  const auto heads = static_cast<double>(options.heads);
  const at::Tensor slopes = at::exp2(at::arange(1, options.heads + 1, at::kFloat) * (-8 / heads));
  const at::Tensor places = at::arange(options.context, at::kFloat);
  const at::Tensor distances = places.view({-1, 1}) - places;
  const at::Tensor fading = distances * -slopes.view({-1, 1, 1});
  return fading.masked_fill(distances < 0, -std::numeric_limits<double>::infinity()).unsqueeze(0);
}

Block::Block(const ModelOptions& options, at::Tensor bias)
    : heads_(options.heads),
      dropout_(options.dropout),
      bias_(std::move(bias)),
      attention_norm_(register_module("attention_norm", norm(options.dim))),
      mlp_norm_(register_module("mlp_norm", norm(options.dim))),
      query_key_value_(register_module("query_key_value", linear(options.dim, 3 * options.dim))),
      attention_out_(register_module("attention_out", linear(options.dim, options.dim))),
      mlp_in_(register_module("mlp_in", linear(options.dim, 4 * options.dim))),
      mlp_out_(register_module("mlp_out", linear(4 * options.dim, options.dim))) {}

at::Tensor Block::attend(const at::Tensor& x) {
  const std::int64_t batch = x.size(0), length = x.size(1), dim = x.size(2);
  const auto parts =
      query_key_value_(x).view({batch, length, 3, heads_, dim / heads_}).permute({2, 0, 3, 1, 4});
  const at::Tensor bias = bias_.slice(2, 0, length).slice(3, 0, length);
  const at::Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], bias);
  return attention_out_(mixed.transpose(1, 2).reshape({batch, length, dim}));
}

at::Tensor Block::attention(const at::Tensor& x) {
  return x + at::dropout(attend(attention_norm_(x)), dropout_, is_training());
}

at::Tensor Block::perceptron(const at::Tensor& x) {
  return x + at::dropout(mlp_out_(at::gelu(mlp_in_(mlp_norm_(x)))), dropout_, is_training());
}

GptStage::GptStage(const ModelOptions& options, const Slice& slice)
    : dropout_(options.dropout), first_block_(slice.first_block) {
  if (slice.embeds) {
    token_ = register_module("token", torch::nn::Embedding(kVocabulary, options.dim));
  }
  const auto blocks = register_module("blocks", std::make_shared<torch::nn::Module>());
  const at::Tensor bias = attention_bias(options).to(options.device);
  for (std::int64_t block = 0; block < slice.num_blocks; ++block)
    blocks_.push_back(blocks->register_module(std::to_string(slice.first_block + block),
                                              std::make_shared<Block>(options, bias)));
  if (slice.predicts) {
    norm_ = register_module("norm", norm(options.dim));
    head_ = register_module("head", linear(options.dim, kVocabulary));
  }
  initialise(*this, options);
  to(options.device);
}

std::vector<Layer> GptStage::layers() {
  std::vector<Layer> layers;
  if (token_)
    layers.push_back({"embedding", [this](const at::Tensor& bytes) {
                        return at::dropout(token_(bytes), dropout_, is_training());
                      }});
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const std::string number = std::to_string(first_block_ + static_cast<std::int64_t>(i));
    Block* const block = blocks_[i].get();
    layers.push_back({"attention " + number, [block](const at::Tensor& x) { return block->attention(x); }});
    layers.push_back({"perceptron " + number, [block](const at::Tensor& x) { return block->perceptron(x); }});
  }
  if (head_) layers.push_back({"prediction", [this](const at::Tensor& x) { return head_(norm_(x)); }});
  return layers;
}

at::Tensor GptStage::forward(const at::Tensor& input) {
  at::Tensor x = input;
  for (const Layer& layer : layers()) x = layer.forward(x);
  return x;
}

at::Tensor loss(const at::Tensor& logits, const at::Tensor& targets) {
  return at::cross_entropy_loss(logits.reshape({-1, kVocabulary}), targets.reshape({-1}));
}

}  // namespace train_gpt
