// The sizes at which the tests of verify(), lower() and the like make every generator's schedules.
#pragma once

#include <algorithm>
#include <vector>

#include "counterflow/generate.h"

namespace counterflow {

/// The numbers of stages a rank worth trying: the generator's own and, where it takes any, up to `most`.
inline std::vector<int> stages_per_rank_of(const Generator& generator, int most) {
  if (!generator.takes_stages_per_rank) return {generator.stages_per_rank};
  std::vector<int> all;
  for (int v = 1; v <= most; ++v) all.push_back(v);
  return all;
}

/// The first `count` numbers of micro-batches from `from` to `to` that fit.
inline std::vector<Size> first_fitting(const Generator& generator, int ranks, int stages_per_rank, int from,
                                       int to, int count) {
  std::vector<Size> sizes;
  for (int m = from; m <= to && static_cast<int>(sizes.size()) < count; ++m) {
    const Size size{ranks, m, stages_per_rank};
    if (generator.fits(size)) sizes.push_back(size);
  }
  return sizes;
}

/// Everything of up to 4 ranks and 6 micro-batches; where nothing that small fits, the smallest two that do.
inline std::vector<Size> small_sizes(const Generator& generator) {
  std::vector<Size> sizes;
  for (int ranks = 1; ranks <= 4; ++ranks) {
    for (const int v : stages_per_rank_of(generator, 3)) {
      std::vector<Size> found = first_fitting(generator, ranks, v, 1, 6, 6);
      if (found.empty()) found = first_fitting(generator, ranks, v, 7, 64, 2);
      sizes.insert(sizes.end(), found.begin(), found.end());
    }
  }
  return sizes;
}

/// 4 to 16 ranks, each with the fewest micro-batches that fit, then some of about 1.5, 2 and 3 times the
/// ranks.
inline std::vector<Size> large_sizes(const Generator& generator) {
  std::vector<Size> sizes;
  for (int ranks = 4; ranks <= 16; ++ranks) {
    for (const int v : stages_per_rank_of(generator, 2)) {
      int last = 0;
      for (const int from : {1, ranks + ranks / 2, 2 * ranks + 1, 3 * ranks - 1}) {
        for (const Size& size : first_fitting(generator, ranks, v, std::max(from, last + 1), 4 * ranks, 1)) {
          sizes.push_back(size);
          last = size.micro_batches;
        }
      }
    }
  }
  return sizes;
}

}  // namespace counterflow
