// JSON as a tree whose values know where they stand in the text, so that errors can say line and column.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text.h"

namespace counterflow {

struct JsonValue {
  enum class Kind : std::uint8_t { kInteger, kString, kArray, kObject, kOther };

  Kind kind = Kind::kOther;
  std::size_t offset = 0;        ///< where it begins
  std::string_view key;          ///< of a member of an object, as it is written
  std::int64_t integer = 0;      ///< where kind is kInteger
  std::vector<JsonValue> items;  ///< of an array or object
};

/// Throws ParseError for what is no JSON, and for JSON with more levels or values than any file of ours has.
JsonValue parse_json(const Source& source, std::size_t most_values = 1 << 20);

/// The text of the value that begins at an offset, as far as one sees it without reading it: up to a comma, a
/// bracket or a blank.
std::string_view json_text(const Source& source, std::size_t offset);

}  // namespace counterflow
