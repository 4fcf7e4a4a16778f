// A test's model on a GPU, in another type.
#pragma once

#include "../runtime/models.h"

namespace models {

class OnDevice : public Model {
 public:
  OnDevice(const Model& model, at::Device device, at::ScalarType type)
      : Model(model.num_stages), model_(model), device_(device), type_(type) {}

  std::shared_ptr<StageModule> stage(int index) const override {
    auto stage = model_.stage(index);
    stage->to(device_, type_);
    return stage;
  }
  Tensors input(int step, int m) const override { return move(model_.input(step, m)); }
  Tensors target(int step, int m) const override { return move(model_.target(step, m)); }
  at::Tensor loss(const Tensors& outputs, const Tensors& targets) const override {
    return model_.loss(outputs, targets);
  }

 private:
  Tensors move(Tensors tensors) const {
    for (at::Tensor& tensor : tensors)
      tensor = tensor.to(device_, tensor.is_floating_point() ? type_ : tensor.scalar_type());
    return tensors;
  }

  const Model& model_;
  const at::Device device_;
  const at::ScalarType type_;
};

}  // namespace models
