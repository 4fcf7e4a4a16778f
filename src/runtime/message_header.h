// What goes ahead of a message's tensors: what they are, as bytes.
#pragma once

#include <string>
#include <string_view>

#include "counterflow/runtime/transport.h"
#include "message_shape.h"

namespace counterflow::runtime {

struct MessageHeader {
  Pass producer;
  MessageShape message;

  friend bool operator==(const MessageHeader&, const MessageHeader&) = default;
};

/// Throws TransportError for tensors that are not carried: those not on the CPU, sparse, or quantized.
void check_carried(const Tensors& tensors);

/// In this machine's byte order: all ranks run the same program.
std::string encode(const MessageHeader& header);

/// Takes any bytes; throws TransportError for those that encode() does not write. All sizes of what it
/// returns fit in memory's addresses.
MessageHeader decode(std::string_view bytes);

}  // namespace counterflow::runtime
