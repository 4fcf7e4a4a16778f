// Models as lists of stages, for tests. Knows torch only.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace models {

using Tensors = std::vector<at::Tensor>;

/// A stage of a model. Its parameters are the same whoever makes it.
struct StageModule : torch::nn::Module {
  virtual Tensors forward(const Tensors& inputs) = 0;

  /// The same as functions to be called one after the other.
  virtual std::vector<std::function<Tensors(const Tensors&)>> pieces() {
    return {[this](const Tensors& inputs) { return forward(inputs); }};
  }
};

struct Model {
  /// The stages, or the one asked for.
  std::vector<std::shared_ptr<StageModule>> stages() const;
  virtual std::shared_ptr<StageModule> stage(int index) const = 0;

  /// Of one micro-batch: what goes in, and what the loss compares with.
  virtual Tensors input(int step, int micro_batch) const = 0;
  virtual Tensors target(int step, int micro_batch) const = 0;
  virtual at::Tensor loss(const Tensors& outputs, const Tensors& targets) const = 0;

  /// The names of a parameter that the first and the last stage have in common; empty where there is none.
  virtual std::vector<const char*> tied() const { return {}; }

  explicit Model(int stages) : num_stages(stages) {}
  virtual ~Model() = default;

  const int num_stages;
};

/// Linear layers and tanh, the mean square as loss.
std::unique_ptr<Model> mlp(int num_stages);

/// Each stage adds its weights to what comes; the loss is the sum. From inputs of zeros every micro-batch's
/// gradient of every weight is 1, whatever the type, times the loss's weight.
std::unique_ptr<Model> counter(int num_stages);

/// A small transformer over tokens: stages of one or two blocks (uneven), an embedding in the first and a
/// product with the same embedding in the last, tied; positions and tokens travel on beside the activations
/// as integers; cross entropy.
std::unique_ptr<Model> gpt(int num_stages, double dropout);

}  // namespace models
