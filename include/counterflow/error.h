// The exceptions Counterflow throws. A bad schedule is not one of them: verify() returns diagnostics.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

namespace counterflow {

/// The root of every exception that the library throws on purpose. what() is one readable line that says what
/// was expected, what was found and, where there is something to do, what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A text that is no schedule (or no cost file). what() starts with "file:line:column: ".
class ParseError : public Error {
 public:
  /// `line` and `column` count from 1; a column counts bytes.
  ParseError(const std::string& file, std::size_t line, std::size_t column, const std::string& message);

  std::size_t line() const { return line_; }
  std::size_t column() const { return column_; }

 private:
  std::size_t line_;
  std::size_t column_;
};

/// Arguments that do not fit together: a size that a generator cannot make, costs for another number of
/// stages, a schedule given to simulate() that cannot run to its end.
class InvalidConfig : public Error {
 public:
  using Error::Error;
};

}  // namespace counterflow
