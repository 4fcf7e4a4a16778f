// What goes ahead of a message's tensors: what they are, as bytes.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/runtime/transport.h"

namespace counterflow::runtime {

struct TensorHeader {
  bool defined = false;
  at::ScalarType type = at::kFloat;
  std::vector<std::int64_t> sizes;

  explicit TensorHeader(const at::Tensor& tensor);
  TensorHeader() = default;

  std::size_t num_bytes() const;
  std::string to_string() const;  ///< as describe() of the tensor

  friend bool operator==(const TensorHeader&, const TensorHeader&) = default;
};

struct MessageHeader {
  Pass producer;
  std::vector<TensorHeader> tensors;
  std::vector<char> differentiable;

  friend bool operator==(const MessageHeader&, const MessageHeader&) = default;
};

std::vector<TensorHeader> headers_of(const Tensors& tensors);

/// In this machine's byte order: all ranks run the same program.
std::string encode(const MessageHeader& header);

/// Takes any bytes; throws TransportError for those that encode() does not write. All sizes of what it
/// returns fit in memory's addresses.
MessageHeader decode(std::string_view bytes);

}  // namespace counterflow::runtime
