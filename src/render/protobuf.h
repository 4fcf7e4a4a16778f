// Writes messages in the protobuf wire format (https://protobuf.dev/programming-guides/encoding), by hand and
// fast: a nested message is written after its payload is known, so it must be small.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace counterflow {

/// Appends fields to a text.
class Protobuf {
 public:
  explicit Protobuf(std::string& text) : text_(text) {}

  void varint(std::uint32_t field, std::uint64_t value) {
    raw(std::uint64_t{field} << 3);
    raw(value);
  }

  void fixed64(std::uint32_t field, std::uint64_t value) {
    raw(std::uint64_t{field} << 3 | 1);
    std::array<char, 8> bytes;
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(value >> (8 * i) & 255);
    text_.append(bytes.data(), bytes.size());
  }

  /// A string, or a message that is already encoded.
  void bytes(std::uint32_t field, std::string_view value) {
    raw(std::uint64_t{field} << 3 | 2);
    raw(value.size());
    text_ += value;
  }

 private:
  void raw(std::uint64_t value) {
    std::array<char, 10> bytes;
    std::size_t size = 0;
    for (; value >= 128; value >>= 7) bytes[size++] = static_cast<char>(value | 128);
    bytes[size++] = static_cast<char>(value);
    text_.append(bytes.data(), size);
  }

  std::string& text_;
};

}  // namespace counterflow
