// What a message looks like, told once where the messages themselves carry bytes only.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/runtime/transport.h"

namespace counterflow::runtime {

struct TensorShape {
  bool defined = false;
  at::ScalarType type = at::kFloat;
  std::vector<std::int64_t> sizes;

  explicit TensorShape(const at::Tensor& tensor);
  TensorShape() = default;

  std::size_t num_bytes() const;
  std::string to_string() const;  ///< as describe() of the tensor

  friend bool operator==(const TensorShape&, const TensorShape&) = default;
};

/// Undefined where the shape says so; the contents are arbitrary.
at::Tensor make_tensor(const TensorShape& shape, at::Device device);

struct MessageShape {
  std::vector<TensorShape> tensors;
  std::vector<char> differentiable;  ///< as in Message

  explicit MessageShape(const Message& message);
  explicit MessageShape(const Tensors& all);
  MessageShape() = default;
  friend bool operator==(const MessageShape&, const MessageShape&) = default;
};

std::string to_text(const MessageShape& shape);

/// Throws TransportError for what to_text() never writes.
MessageShape parse_message_shape(const std::string& text);

}  // namespace counterflow::runtime
