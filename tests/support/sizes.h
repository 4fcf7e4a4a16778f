// Sizes to try a generator at.
#pragma once

#include <vector>

#include "counterflow/generate.h"

namespace counterflow::testing {

/// The first `most` sizes that fit a generator, of 2 ranks and more: for each number of ranks the fewest
/// micro-batches that fit and one more size.
inline std::vector<Size> small_sizes(const Generator& generator, std::size_t most) {
  std::vector<Size> sizes;
  const int stages = generator.takes_stages_per_rank ? 2 : generator.stages_per_rank;
  for (int ranks = 2; sizes.size() < most && ranks <= 16; ++ranks) {
    int of_these_ranks = 0;
    for (int micro_batches = ranks; of_these_ranks < 2 && micro_batches <= 8 * ranks; ++micro_batches) {
      const Size size{.ranks = ranks, .micro_batches = micro_batches, .stages_per_rank = stages};
      if (!generator.fits(size) || sizes.size() >= most) continue;
      sizes.push_back(size);
      ++of_these_ranks;
    }
  }
  return sizes;
}

}  // namespace counterflow::testing
