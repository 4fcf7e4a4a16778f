#include "counterflow/error.h"

namespace counterflow {

ParseError::ParseError(const std::string& file, std::size_t line, std::size_t column,
                       const std::string& message)
    : Error(file + ":" + std::to_string(line) + ":" + std::to_string(column) + ": " + message),
      line_(line),
      column_(column) {}

}  // namespace counterflow
