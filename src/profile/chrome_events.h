// The events of a Chrome trace that PyTorch Profiler wrote, as far as they say what ran when on a GPU.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "../core/text.h"
#include "counterflow/cost.h"

namespace counterflow {

/// Texts that occur often, each kept once.
class Names {
 public:
  std::uint32_t number(std::string_view text);
  const std::string& text(std::uint32_t number) const { return texts_[number]; }
  std::size_t size() const { return texts_.size(); }

 private:
  std::deque<std::string> texts_;  // stay where they are
  std::unordered_map<std::string_view, std::uint32_t> numbers_;
};

struct ChromeEvent {
  enum class Kind : std::uint8_t {
    kKernel,  ///< on a GPU: kernels, copies, fills
    kLaunch,  ///< a call of CUDA's runtime or driver
    kRange,   ///< a range that the program named
    kOperator,
  };

  Kind kind = Kind::kOperator;
  std::uint32_t name = 0;
  std::uint32_t process = 0;  ///< of a kernel: its device
  std::uint32_t thread = 0;   ///< of a kernel: its stream
  Time begin = 0;             ///< in nanoseconds
  Time end = 0;
  std::int64_t correlation = -1;  ///< the same for a kernel and its launch; -1 where there is none
};

struct ChromeEvents {
  Names names;                      ///< of events, processes and threads
  std::vector<ChromeEvent> events;  ///< in the file's order; other events are left out
};

/// Throws ParseError for what is no JSON, has no list of events, or has events whose times cannot be.
ChromeEvents read_chrome_events(const Source& source);

}  // namespace counterflow
