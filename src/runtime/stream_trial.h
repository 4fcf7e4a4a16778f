// Whether recorded steps are faster with one stream or with two: tried out in the first of them.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

namespace counterflow::runtime {

/// What the next training step does, and what has come of it. All ranks go through the same steps and, given
/// the same times, come to the same result.
class StreamTrial {
 public:
  int streams() const { return streams_; }

  /// Whether the step to come is to be recorded anew, with streams().
  bool records() const { return step_ == kRecordTwo || (step_ == kDecided && streams_ == 1); }

  /// Whether the time of the step to come counts.
  bool counts() const { return step_ > 1 && step_ < kDecided && step_ != kRecordTwo; }

  /// Whether next() will come to the result, and needs the times of all ranks for it.
  bool decides() const { return step_ + 1 == kDecided; }

  bool is_over() const { return step_ > kDecided; }

  void note(double seconds) { best_[streams_ - 1] = std::min(best_[streams_ - 1], seconds); }

  /// The shortest times with one stream and with two.
  std::array<double, 2>& best() { return best_; }

  void next() {
    ++step_;
    if (step_ == kRecordTwo) streams_ = 2;
    if (step_ == kDecided) streams_ = best_[1] < best_[0] ? 2 : 1;
  }

 private:
  // Step 0 runs as it is, step 1 is recorded with one stream.
  static constexpr int kRecordTwo = 4;
  static constexpr int kDecided = 7;

  int step_ = 0;
  int streams_ = 1;
  std::array<double, 2> best_{std::numeric_limits<double>::max(), std::numeric_limits<double>::max()};
};

}  // namespace counterflow::runtime
