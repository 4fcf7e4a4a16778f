#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <vector>

#include "counterflow/error.h"
#include "generators.h"

namespace counterflow {
namespace {

constexpr std::array kGenerators = {
    &generators::gpipe,
    &generators::one_f_one_b,
    &generators::interleaved_1f1b,
    &generators::looped_bfs,
    &generators::interleaved_zero_bubble,
    &generators::zb_h1,
    &generators::zb_h2,
    &generators::zbv,
    &generators::v_half,
    &generators::v_min,
    &generators::dualpipe,
    &generators::dualpipe_v,
    &generators::chimera,
};

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

std::string describe(const Generator& generator, const Size& size) {
  std::string text =
      std::to_string(size.ranks) + " ranks x " + std::to_string(size.micro_batches) + " micro-batches";
  if (generator.takes_stages_per_rank)
    text += " x " + std::to_string(size.stages_per_rank) + " stages a rank";
  return text;
}

// The nearest size that fits on each of the ways a user would go: other micro-batches, other ranks, both.
std::vector<Size> nearest_sizes(const Generator& generator, const Size& wanted) {
  constexpr int kReach = 4096;
  std::vector<Size> found;
  const auto try_size = [&](Size size) {
    if (size.ranks < 1 || size.micro_batches < 1 || !generator.fits(size)) return false;
    found.push_back(size);
    return true;
  };
  for (const int sign : {-1, 1}) {
    for (int step = 1; step <= kReach; ++step) {
      if (try_size({wanted.ranks, wanted.micro_batches + sign * step, wanted.stages_per_rank})) break;
    }
    for (int step = 1; step <= kReach; ++step) {
      if (try_size({wanted.ranks + sign * step, wanted.micro_batches, wanted.stages_per_rank})) break;
    }
  }
  for (int distance = 2; found.empty() && distance <= 256; ++distance) {
    for (int ranks = -distance; ranks <= distance; ++ranks) {
      const int rest = distance - std::abs(ranks);
      if (try_size({wanted.ranks + ranks, wanted.micro_batches + rest, wanted.stages_per_rank})) break;
      if (try_size({wanted.ranks + ranks, wanted.micro_batches - rest, wanted.stages_per_rank})) break;
    }
  }
  return found;
}

void check_limit(const char* what, int found, int most) {
  if (found < 1 || found > most) {
    throw InvalidConfig(std::string("number of ") + what + ": expected 1 to " + std::to_string(most) +
                        ", found " + std::to_string(found));
  }
}

// Far above any real step (16 times DualPipe on 1024 ranks with 4096 micro-batches), so that a slip of the
// keyboard does not fill the memory.
void check_work(const std::string& name, const Size& size) {
  constexpr std::int64_t kMostForwards = std::int64_t{1} << 26;
  const std::int64_t forwards = std::int64_t{size.ranks} * size.stages_per_rank * size.micro_batches;
  if (forwards > kMostForwards) {
    throw InvalidConfig(name + ": expected ranks x stages a rank x micro-batches to be at most " +
                        std::to_string(kMostForwards) + ", found " + std::to_string(forwards));
  }
}

}  // namespace

std::span<const Generator* const> all_generators() {
  return kGenerators;
}

const Generator& find_generator(std::string_view name) {
  const auto all = all_generators();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Generator* g) { return g->name == name; });
  if (found != all.end()) return **found;
  const Generator* nearest =
      *std::min_element(all.begin(), all.end(), [&](const Generator* a, const Generator* b) {
        return edit_distance(a->name, name) < edit_distance(b->name, name);
      });
  throw InvalidConfig("no generator is named \"" + std::string(name.substr(0, 80)) +
                      "\"; the nearest name is " + std::string(nearest->name) +
                      " (`counterflow list` shows all)");
}

Schedule generate(const Generator& generator, Size size) {
  if (size.stages_per_rank == 0) size.stages_per_rank = generator.stages_per_rank;
  check_limit("ranks", size.ranks, Placement::kMaxRanks);
  check_limit("micro-batches", size.micro_batches, Placement::kMaxMicroBatches);
  check_limit("stages a rank", size.stages_per_rank, Placement::kMaxStages / size.ranks);
  const std::string name(generator.name);
  if (!generator.takes_stages_per_rank && size.stages_per_rank != generator.stages_per_rank) {
    throw InvalidConfig(name + ": expected " + std::to_string(generator.stages_per_rank) +
                        (generator.stages_per_rank == 1 ? " stage" : " stages") + " a rank, found " +
                        std::to_string(size.stages_per_rank));
  }
  if (!generator.fits(size)) {
    std::string message =
        name + ": expected " + std::string(generator.constraint) + ", found " + describe(generator, size);
    std::string_view joint = "; the nearest that work: ";
    for (const Size& near : nearest_sizes(generator, size)) {
      message += std::string(joint) + describe(generator, near);
      joint = ", ";
    }
    throw InvalidConfig(message);
  }
  check_work(name, size);
  return generator.make(size);
}

Schedule generate(std::string_view name, Size size) {
  return generate(find_generator(name), size);
}

}  // namespace counterflow
