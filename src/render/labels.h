// What the views say alike: times, labels, headings, and which shade tells a rank's passes apart.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "counterflow/timeline.h"

namespace counterflow {

/// Which of several shades a pass is drawn in.
struct Shade {
  int index = 0;
  int count = 1;
};

/// Tells passes of a rank apart by what a label leaves out: the direction where there are several, otherwise
/// the stage among the rank's stages. Where there are more than kMost, neighbours share a shade.
class Shades {
 public:
  static constexpr int kMost = 8;

  explicit Shades(const Placement& placement);

  Shade of(const Pass& pass) const;

  /// How many shades of() may give.
  int count() const;

  /// Whether a label needs the stage, since neither the micro-batch nor one of `shades` shades tells it.
  bool needs_stage(int shades) const;

 private:
  /// The values that of() maps to shades.
  int range() const { return placement_.num_directions() > 1 ? placement_.num_directions() : most_stages_; }

  const Placement& placement_;
  int most_stages_ = 0;  // that a rank holds for one direction
};

/// "66", or with a unit "1.204 ms": four digits at least.
std::string format_time(Time time, std::int64_t unit_ns);

/// "1.2 GiB".
std::string format_bytes(std::int64_t bytes);

/// "9.1 %".
std::string format_ratio(double ratio);

/// The name without control characters, or "schedule".
std::string title(const Timeline& timeline);

/// Titles made different: "dualpipe", "dualpipe (2)".
std::vector<std::string> distinct_titles(std::span<const Timeline> timelines);

/// "8 ranks, 20 micro-batches, makespan 66, bubble 9.1 %, at most 9 activations".
std::string describe(const Timeline& timeline);

/// One line for each direction of several: "micro-batches 0-9 go from rank 0 to rank 7".
std::vector<std::string> describe_directions(const Placement& placement);

/// The smallest of 1, 2, 5, 10, 20 ... times `unit` that is at least `least`: how far an axis' ticks are
/// apart.
Time round_step(Time unit, double least);

/// Which kinds of bars there are.
struct Kinds {
  std::array<bool, 4> passes = {};  ///< [PassKind]
  bool overlap = false;
};
Kinds kinds_of(std::span<const Timeline> timelines);

/// "forward", "backward", "input gradient" or "weight gradient".
const char* name_of(PassKind kind);

/// The same timelines in one unit of time. Throws InvalidConfig where a time would pass 2^62.
std::vector<Timeline> in_one_unit(std::span<const Timeline> timelines);

}  // namespace counterflow
