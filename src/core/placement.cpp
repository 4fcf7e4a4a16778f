#include "counterflow/placement.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "counterflow/error.h"

namespace counterflow {
namespace {

void check_count(const char* what, std::int64_t found, std::int64_t most) {
  if (found < 1 || found > most) {
    throw InvalidConfig(std::string("number of ") + what + ": expected 1 to " + std::to_string(most) +
                        ", found " + std::to_string(found));
  }
}

}  // namespace

Placement::Placement(int num_ranks, std::vector<Direction> directions)
    : num_ranks_(num_ranks), directions_(std::move(directions)) {
  check_count("ranks", num_ranks_, kMaxRanks);
  check_count("directions", static_cast<std::int64_t>(directions_.size()), num_ranks_);
  num_stages_ = static_cast<int>(std::min<std::size_t>(directions_[0].rank_of_stage.size(), kMaxStages + 1));
  check_count("stages", num_stages_, kMaxStages);

  std::int64_t next_micro_batch = 0;
  for (std::size_t d = 0; d < directions_.size(); ++d) {
    const Direction& direction = directions_[d];
    const std::string where = "direction " + std::to_string(d);
    if (direction.first_micro_batch != next_micro_batch || direction.num_micro_batches < 1) {
      throw InvalidConfig(where + ": expected one or more micro-batches from " +
                          std::to_string(next_micro_batch) + " on, found " +
                          std::to_string(direction.num_micro_batches) + " from " +
                          std::to_string(direction.first_micro_batch) + " on");
    }
    next_micro_batch += direction.num_micro_batches;
    check_count("micro-batches", next_micro_batch, kMaxMicroBatches);
    if (direction.rank_of_stage.size() != static_cast<std::size_t>(num_stages_)) {
      throw InvalidConfig(where + ": expected a rank for each of " + std::to_string(num_stages_) +
                          " stages, found " + std::to_string(direction.rank_of_stage.size()));
    }
    for (const std::int32_t rank : direction.rank_of_stage) {
      if (rank < 0 || rank >= num_ranks_) {
        throw InvalidConfig(where + ": expected ranks 0 to " + std::to_string(num_ranks_ - 1) + ", found " +
                            std::to_string(rank));
      }
    }
  }
  num_micro_batches_ = static_cast<int>(next_micro_batch);

  // The stages of each rank, by counting sort over each direction.
  stage_begin_.assign(directions_.size() * num_ranks_ + 1, 0);
  for (std::size_t d = 0; d < directions_.size(); ++d) {
    for (const std::int32_t rank : directions_[d].rank_of_stage) ++stage_begin_[d * num_ranks_ + rank + 1];
  }
  std::partial_sum(stage_begin_.begin(), stage_begin_.end(), stage_begin_.begin());
  stages_.resize(stage_begin_.back());
  std::vector<std::int32_t> next(stage_begin_.begin(), stage_begin_.end() - 1);
  for (std::size_t d = 0; d < directions_.size(); ++d) {
    for (int stage = 0; stage < num_stages_; ++stage) {
      stages_[next[d * num_ranks_ + directions_[d].rank_of_stage[stage]]++] = stage;
    }
  }
}

Placement Placement::loop(int num_ranks, int stages_per_rank, int num_micro_batches) {
  check_count("ranks", num_ranks, kMaxRanks);
  check_count("stages", std::int64_t{num_ranks} * stages_per_rank, kMaxStages);
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(num_ranks) * stages_per_rank);
  for (std::size_t stage = 0; stage < ranks.size(); ++stage) {
    ranks[stage] = static_cast<std::int32_t>(stage % num_ranks);
  }
  return Placement(num_ranks, {{0, num_micro_batches, std::move(ranks)}});
}

Placement Placement::v(int num_ranks, int num_micro_batches) {
  check_count("ranks", num_ranks, kMaxRanks);
  std::vector<std::int32_t> ranks(2 * static_cast<std::size_t>(num_ranks));
  std::iota(ranks.begin(), ranks.begin() + num_ranks, 0);
  std::iota(ranks.rbegin(), ranks.rbegin() + num_ranks, 0);
  return Placement(num_ranks, {{0, num_micro_batches, std::move(ranks)}});
}

Placement Placement::bidirectional(int num_ranks, int num_micro_batches) {
  check_count("ranks", num_ranks, kMaxRanks);
  if (num_micro_batches % 2 != 0) {
    throw InvalidConfig("micro-batches of a bidirectional placement: expected an even number, found " +
                        std::to_string(num_micro_batches));
  }
  std::vector<std::int32_t> down(num_ranks);
  std::iota(down.begin(), down.end(), 0);
  std::vector<std::int32_t> up(down.rbegin(), down.rend());
  const int half = num_micro_batches / 2;
  return Placement(num_ranks, {{0, half, std::move(down)}, {half, half, std::move(up)}});
}

std::span<const std::int32_t> Placement::stages_on(int rank, int direction) const {
  const std::size_t index = static_cast<std::size_t>(direction) * num_ranks_ + rank;
  return {stages_.data() + stage_begin_[index], stages_.data() + stage_begin_[index + 1]};
}

std::vector<std::int32_t> Placement::stages_on(int rank) const {
  std::set<std::int32_t> stages;
  for (int d = 0; d < num_directions(); ++d) {
    const auto some = stages_on(rank, d);
    stages.insert(some.begin(), some.end());
  }
  return {stages.begin(), stages.end()};
}

std::vector<std::int32_t> Placement::ranks_of(int stage) const {
  std::set<std::int32_t> ranks;
  for (const Direction& direction : directions_) ranks.insert(direction.rank_of_stage[stage]);
  return {ranks.begin(), ranks.end()};
}

}  // namespace counterflow
