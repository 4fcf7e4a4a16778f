// The header of a safetensors file, checked against the bytes that follow it.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "counterflow/runtime/safetensors.h"

namespace counterflow::runtime {

struct SafetensorsHeader {
  std::map<std::string, SafetensorsFile::Entry> entries;
  std::map<std::string, std::string> metadata;
};

/// Reads a header that `data_bytes` bytes follow. Throws Error that begins with `file`.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes,
                                           const std::string& file);

/// The format's name of a type ("F32"); empty where it has none.
std::string_view safetensors_name(at::ScalarType type);

}  // namespace counterflow::runtime
