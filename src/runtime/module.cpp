#include "counterflow/runtime/module.h"

#include <torch/nn/module.h>

namespace counterflow::runtime {
namespace {

class ModuleStage : public Stage {
 public:
  ModuleStage(std::function<Tensors(const Tensors&)> forward, std::shared_ptr<torch::nn::Module> module)
      : forward_(std::move(forward)), module_(std::move(module)) {}

  Tensors forward(const Tensors& inputs) override { return forward_(inputs); }

  std::vector<NamedTensor> parameters() const override {
    return module_ ? named(module_->named_parameters()) : std::vector<NamedTensor>();
  }

  std::vector<NamedTensor> buffers() const override {
    return module_ ? named(module_->named_buffers()) : std::vector<NamedTensor>();
  }

  void begin_evaluation() override {
    if (!module_) return;
    for (const auto& module : module_->modules()) was_training_.emplace_back(module, module->is_training());
    module_->eval();
  }

  void end_evaluation() override {
    // Parents come first: each sets those inside it too, which then are set to what they were.
    for (const auto& [module, was_training] : was_training_) module->train(was_training);
    was_training_.clear();
  }

 private:
  template <class Dictionary>
  static std::vector<NamedTensor> named(const Dictionary& tensors) {
    std::vector<NamedTensor> all;
    all.reserve(tensors.size());
    for (const auto& item : tensors) all.push_back({item.key(), item.value()});
    return all;
  }

  std::function<Tensors(const Tensors&)> forward_;
  std::shared_ptr<torch::nn::Module> module_;
  std::vector<std::pair<std::shared_ptr<torch::nn::Module>, bool>> was_training_;
};

}  // namespace

std::shared_ptr<Stage> make_stage(std::function<Tensors(const Tensors&)> forward,
                                  std::shared_ptr<torch::nn::Module> module) {
  return std::make_shared<ModuleStage>(std::move(forward), std::move(module));
}

}  // namespace counterflow::runtime
