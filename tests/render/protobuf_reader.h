// Reads messages in the protobuf wire format without their definitions.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace counterflow::testing {

struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;  ///< of a varint or a fixed64
  std::string bytes;        ///< of a string or a nested message
};

class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view text) : text_(text) {}

  std::vector<Field> read() {
    std::vector<Field> fields;
    while (at_ < text_.size()) {
      const std::uint64_t tag = varint();
      Field field{.number = tag >> 3, .value = 0, .bytes = {}};
      switch (tag & 7) {
        case 0:
          field.value = varint();
          break;
        case 1:
          for (int shift = 0; shift < 64; shift += 8) field.value |= std::uint64_t{next()} << shift;
          break;
        case 2:
          for (std::uint64_t left = varint(); left > 0; --left) field.bytes += static_cast<char>(next());
          break;
        default:
          throw std::runtime_error("a wire type that nothing here uses");
      }
      fields.push_back(field);
    }
    return fields;
  }

 private:
  std::uint8_t next() {
    if (at_ >= text_.size()) throw std::runtime_error("the message ends within a field");
    return static_cast<std::uint8_t>(text_[at_++]);
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::uint8_t byte = next();
      value |= std::uint64_t{byte & 127U} << shift;
      if (byte < 128) return value;
    }
    throw std::runtime_error("a varint without end");
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

inline std::vector<Field> read_message(std::string_view text) {
  return ProtobufReader(text).read();
}

}  // namespace counterflow::testing
