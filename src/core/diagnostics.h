// Gathers diagnostics: keeps the first few of each rule and counts the rest, so that a file that is wrong in
// a million places takes no more memory than one that is wrong in a hundred.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "counterflow/verify.h"

namespace counterflow {

class Diagnostics {
 public:
  explicit Diagnostics(int max_kept) : max_kept_(static_cast<std::size_t>(std::max(max_kept, 0))) {}

  bool any() const { return total_ > 0; }

  /// `make` builds the diagnostic; it is called only where the diagnostic is kept.
  template <typename Make>
  void add(Rule rule, Make&& make) {
    ++total_;
    auto& kept = kept_[static_cast<std::size_t>(rule)];
    if (kept.size() >= max_kept_) return;
    kept.push_back(make());
    kept.back().rule = rule;
  }

  /// Adds so many that are only counted.
  void count(std::int64_t more) { total_ += more; }

  Verdict take() {
    Verdict verdict;
    verdict.num_diagnostics = total_;
    for (auto& kept : kept_) {
      std::stable_sort(kept.begin(), kept.end(), [](const Diagnostic& a, const Diagnostic& b) {
        return std::pair(a.rank, a.step) < std::pair(b.rank, b.step);
      });
      for (Diagnostic& diagnostic : kept) {
        if (verdict.diagnostics.size() < max_kept_) verdict.diagnostics.push_back(std::move(diagnostic));
      }
    }
    return verdict;
  }

 private:
  std::size_t max_kept_;
  std::int64_t total_ = 0;
  std::array<std::vector<Diagnostic>, kNumRules> kept_;  // [rule]
};

}  // namespace counterflow
