#include "message_shape.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <sstream>

#include "counterflow/runtime/error.h"

namespace counterflow::runtime {
namespace {

constexpr std::size_t kMany = 1 << 16;

std::size_t read_count(std::istringstream& in) {
  std::size_t count = 0;
  in >> count;
  if (count > kMany) in.setstate(std::ios::failbit);
  return in ? count : 0;
}

TensorShape read_tensor(std::istringstream& in) {
  TensorShape shape;
  int type = 0;
  in >> shape.defined >> type;
  if (type < 0 || type >= static_cast<int>(at::ScalarType::NumOptions)) in.setstate(std::ios::failbit);
  shape.type = static_cast<at::ScalarType>(type);
  shape.sizes.resize(read_count(in));
  for (std::int64_t& size : shape.sizes) {
    in >> size;
    if (size < 0) in.setstate(std::ios::failbit);
  }
  return shape;
}

}  // namespace

TensorShape::TensorShape(const at::Tensor& tensor) : defined(tensor.defined()) {
  if (!defined) return;
  type = tensor.scalar_type();
  sizes = tensor.sizes().vec();
}

std::size_t TensorShape::num_bytes() const {
  if (!defined) return 0;
  std::size_t bytes = c10::elementSize(type);
  for (const std::int64_t size : sizes) bytes *= static_cast<std::size_t>(size);
  return bytes;
}

std::string TensorShape::to_string() const {
  if (!defined) return "none";
  std::string text = c10::toString(type);
  text += "[";
  for (std::size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

at::Tensor make_tensor(const TensorShape& shape, at::Device device) {
  if (!shape.defined) return {};
  return at::empty(shape.sizes, at::TensorOptions(shape.type).device(device));
}

MessageShape::MessageShape(const Message& message) : MessageShape(message.tensors) {
  differentiable = message.differentiable;
}

MessageShape::MessageShape(const Tensors& all) {
  for (const at::Tensor& tensor : all) tensors.emplace_back(tensor);
}

std::string to_text(const MessageShape& shape) {
  std::ostringstream out;
  out << shape.tensors.size();
  for (const TensorShape& tensor : shape.tensors) {
    out << ' ' << tensor.defined << ' ' << static_cast<int>(tensor.type) << ' ' << tensor.sizes.size();
    for (const std::int64_t size : tensor.sizes) out << ' ' << size;
  }
  out << ' ' << shape.differentiable.size();
  for (const char flag : shape.differentiable) out << ' ' << (flag != 0);
  return out.str();
}

MessageShape parse_message_shape(const std::string& text) {
  std::istringstream in(text);
  MessageShape shape;
  for (std::size_t n = read_count(in); n > 0 && in; --n) shape.tensors.push_back(read_tensor(in));
  for (std::size_t n = read_count(in); n > 0 && in; --n) {
    bool flag = false;
    in >> flag;
    shape.differentiable.push_back(flag ? 1 : 0);
  }
  if (!in)
    throw TransportError("a peer announced a message that cannot be read: \"" + text.substr(0, 80) + "\"");
  return shape;
}

}  // namespace counterflow::runtime
