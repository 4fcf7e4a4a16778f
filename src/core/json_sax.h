// What handlers of nlohmann's JSON events share: where in the text they are, and errors that say so.
#pragma once

#include <cstddef>
#include <iterator>
#include <string>

#include "text.h"

namespace counterflow {

/// Walks over a text and counts the bytes taken, which nlohmann's parser does not tell its handler.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, std::size_t* taken) : at_(at), taken_(taken) {}

  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*taken_;
    return *this;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.at_ == b.at_; }

 private:
  const char* at_;
  std::size_t* taken_;
};

/// Throws ParseError for what the parser found wrong, `what`, after so many bytes.
[[noreturn]] void fail_json(const Source& source, std::size_t taken, std::string_view what);

}  // namespace counterflow
