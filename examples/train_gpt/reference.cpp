#include "reference.h"

#include <ATen/Context.h>
#include <ATen/ops/scalar_tensor.h>

#include <cmath>
#include <memory>

#include "batches.h"
#include "counterflow/runtime/checkpoint.h"
#include "counterflow/runtime/random.h"
#include "model.h"
#include "optimizer.h"

namespace train_gpt {
namespace {

namespace cf = counterflow::runtime;
using counterflow::Action;
using counterflow::Pass;

std::vector<cf::NamedTensor> parameters_of(const GptStage& stage) {
  std::vector<cf::NamedTensor> all;
  for (const auto& item : stage.named_parameters()) all.push_back({item.key(), item.value()});
  return all;
}

/// The whole model, and what one step of the plain loop does with it.
class PlainModel {
 public:
  PlainModel(const Options& options, const counterflow::Schedule& schedule)
      : options_(options), schedule_(schedule) {
    for (const Slice& slice : cut(options.model, schedule.num_stages())) {
      stages_.push_back(std::make_shared<GptStage>(options.model, slice));
      optimizers_.emplace_back(parameters_of(*stages_.back()));
    }
    if (options.model.tied) head().data().copy_(embedding().data());
    if (!options.resume.empty()) load(cf::Checkpoint(options.resume));
  }

  std::vector<float> step(const cf::Batch& batch, std::int64_t number) {
    std::vector<float> losses;
    std::vector<Gradients> gradients;
    for (std::size_t m = 0; m < batch.inputs.size(); ++m) {
      const at::Tensor loss = forward(batch, number, static_cast<int>(m));
      loss.backward(at::scalar_tensor(batch.weights[m], loss.options()));
      losses.push_back(loss.item().toFloat());
      gradients.push_back(take_gradients());
    }
    add_in_order(gradients);
    clip();
    for (AdamW& optimizer : optimizers_)
      optimizer.step(learning_rate(options_.learning_rate, number, options_.steps));
    return losses;
  }

 private:
  using Gradients = std::vector<std::vector<at::Tensor>>;  ///< [stage][parameter]

  at::Tensor embedding() const { return stages_.front()->named_parameters()[kEmbedding]; }
  at::Tensor head() const { return stages_.back()->named_parameters()[kHead]; }

  void load(const cf::Checkpoint& checkpoint) {
    for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
      checkpoint.load(parameters_of(*stages_[stage]));
      checkpoint.load(optimizers_[stage].state());
    }
  }

  at::Tensor forward(const cf::Batch& batch, std::int64_t number, int m) {
    at::Tensor x = batch.inputs[m][0];
    for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
      at::manual_seed(cf::random_seed(options_.model.seed, number, static_cast<int>(stage), m));
      x = stages_[stage]->forward(x);
    }
    return loss(x, batch.targets[m][0]);
  }

  Gradients take_gradients() {
    Gradients all;
    for (const auto& stage : stages_) {
      all.emplace_back();
      for (at::Tensor& parameter : stage->parameters()) {
        all.back().push_back(parameter.grad());
        parameter.mutable_grad().reset();
      }
    }
    return all;
  }

  /// The micro-batches whose weight gradients a rank computes for a stage, in its order.
  std::vector<int> order(int stage, int rank) const {
    std::vector<int> micro_batches;
    for (const Action& action : schedule_.actions[rank])
      for (const Pass& pass : action.passes())
        if (pass.stage == stage && counterflow::releases_activation(pass.kind))
          micro_batches.push_back(pass.micro_batch);
    return micro_batches;
  }

  /// Sums of floating-point numbers depend on their order: each copy of a stage adds up its own
  /// micro-batches, then the copies are added.
  void add_in_order(const std::vector<Gradients>& gradients) {
    for (std::size_t stage = 0; stage < stages_.size(); ++stage) {
      const std::vector<at::Tensor> parameters = stages_[stage]->parameters();
      for (std::size_t p = 0; p < parameters.size(); ++p) {
        at::Tensor total;
        for (const int rank : schedule_.placement.ranks_of(static_cast<int>(stage))) {
          at::Tensor sum;
          for (const int m : order(static_cast<int>(stage), rank))
            sum = sum.defined() ? sum + gradients[m][stage][p] : gradients[m][stage][p];
          total = total.defined() ? total + sum : sum;
        }
        parameters[p].mutable_grad() = total;
      }
    }
    if (!options_.model.tied) return;
    const at::Tensor both = embedding().grad() + head().grad();
    embedding().mutable_grad() = both;
    head().mutable_grad() = both.clone();
  }

  void clip() {
    double squares = 0;
    for (const auto& stage : stages_) {
      for (const auto& item : stage->named_parameters()) {
        if (options_.model.tied && item.key() == kHead) continue;
        const double norm = item.value().grad().norm().item().toDouble();
        squares += norm * norm;
      }
    }
    const double scale = kMostGradientNorm / (std::sqrt(squares) + 1e-6);
    if (scale >= 1) return;
    for (const auto& stage : stages_)
      for (const at::Tensor& parameter : stage->parameters()) parameter.grad().mul_(scale);
  }

  const Options& options_;
  const counterflow::Schedule& schedule_;
  std::vector<std::shared_ptr<GptStage>> stages_;
  std::vector<AdamW> optimizers_;
};

}  // namespace

std::vector<std::vector<float>> losses_without_pipeline(const Options& options, const Text& text,
                                                        const counterflow::Schedule& schedule,
                                                        std::int64_t first_step, std::int64_t first_position,
                                                        std::int64_t num_steps) {
  PlainModel model(options, schedule);
  std::vector<std::vector<float>> losses;
  for (std::int64_t i = 0; i < num_steps; ++i)
    losses.push_back(model.step(
        training_batch(options, text, first_position + i * options.batch, schedule.num_micro_batches()),
        first_step + i));
  return losses;
}

}  // namespace train_gpt
