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

  void train(bool on) override {
    if (module_) module_->train(on);
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
};

}  // namespace

std::shared_ptr<Stage> make_stage(std::function<Tensors(const Tensors&)> forward,
                                  std::shared_ptr<torch::nn::Module> module) {
  return std::make_shared<ModuleStage>(std::move(forward), std::move(module));
}

}  // namespace counterflow::runtime
