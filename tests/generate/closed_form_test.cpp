// What the generators claim of their bubbles and activations against what the simulation finds: exactly, on
// every rank, wherever a closed form gives a value.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "counterflow/generate.h"
#include "counterflow/simulate.h"

namespace counterflow {
namespace {

/// All sizes with 1 to 8 ranks, up to a few more than 3 micro-batches a rank and, where the generator takes
/// them, 1 to 3 stages a rank.
std::vector<Size> sizes_of(const Generator& generator) {
  std::vector<Size> sizes;
  const int first = generator.takes_stages_per_rank ? 1 : generator.stages_per_rank;
  const int last = generator.takes_stages_per_rank ? 3 : generator.stages_per_rank;
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (int micro_batches = 1; micro_batches <= 3 * ranks + 2; ++micro_batches) {
      for (int stages = first; stages <= last; ++stages) {
        if (generator.fits({ranks, micro_batches, stages})) sizes.push_back({ranks, micro_batches, stages});
      }
    }
  }
  return sizes;
}

/// Costs that schedules are drawn with, and random ones: a pair takes between its longer pass and both, or
/// (overlapping can cost time) more.
class Costs {
 public:
  std::vector<UniformCost> draw() {
    std::vector<UniformCost> costs = {{1, 1, 1, {}}, {1, 1, 1, 2},  {3, 3, 3, {}},
                                      {2, 2, 1, {}}, {1, 2, 3, {}}, {4, 3, 0, {}}};
    for (int n = 0; n < 40; ++n) {
      UniformCost cost{.f = between(0, 20), .i = between(0, 20), .w = between(0, 20), .fb = {}};
      const Time both = cost.f + cost.b();
      cost.fb = n % 4 == 0 ? both + between(1, 10) : between(std::max(cost.f, cost.b()), both);
      costs.push_back(cost);
    }
    return costs;
  }

 private:
  Time between(Time first, Time last) {
    return first + static_cast<Time>(random_() % static_cast<std::uint64_t>(last - first + 1));
  }

  std::mt19937_64 random_{20260112};
};

std::string describe(const Generator& generator, const Size& size, int rank) {
  return std::string(generator.name) + " " + std::to_string(size.ranks) + " ranks x " +
         std::to_string(size.micro_batches) + " micro-batches x " + std::to_string(size.stages_per_rank) +
         " stages, rank " + std::to_string(rank);
}

class ClosedFormTest : public testing::TestWithParam<const Generator*> {};

/// Of all ranks of all sizes under all costs, the share in percent for which a generator must know its
/// bubble. Generators that are not listed know it in special cases only.
int least_share(std::string_view generator) {
  static const std::map<std::string_view, int> shares = {
      {"gpipe", 100},
      {"1f1b", 100},
      {"interleaved-1f1b", 100},
      {"looped-bfs", 100},
      {"zb-h1", 100},
      {"zb-h2", 100},
      {"zbv", 30},
      {"v-half", 6},
      {"v-min", 6},
      {"chimera", 45},
      {"dualpipe-v", 100},
      {"dualpipe", 100},
      {"interleaved-zero-bubble", 75},
  };
  const auto found = shares.find(generator);
  return found == shares.end() ? 0 : found->second;
}

TEST_P(ClosedFormTest, BubbleEqualsTheSimulation) {
  const Generator& generator = *GetParam();
  ASSERT_EQ(generator.bubble == nullptr, generator.bubble_formula.empty());
  if (generator.bubble == nullptr) GTEST_SKIP() << "no closed form is known";
  constexpr int kFewest = 20;
  Costs costs;
  std::int64_t compared = 0;
  std::int64_t cases = 0;
  for (const Size& size : sizes_of(generator)) {
    const Schedule schedule = generate(generator, size);
    for (const UniformCost& cost : costs.draw()) {
      const Simulation run = simulate(schedule, cost);
      for (int rank = 0; rank < size.ranks; ++rank, ++cases) {
        const std::optional<Time> bubble = generator.bubble(size, cost, rank);
        if (!bubble) continue;
        ASSERT_EQ(*bubble, run.ranks[rank].idle)
            << describe(generator, size, rank) << " at f=" << cost.f << ",i=" << cost.i << ",w=" << cost.w
            << ",fb=" << cost.overlap();
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, kFewest);
  EXPECT_GE(100 * compared, least_share(generator.name) * cases) << compared << " of " << cases;
}

TEST_P(ClosedFormTest, PeakActivationsEqualTheSimulation) {
  const Generator& generator = *GetParam();
  ASSERT_EQ(generator.peak_activations == nullptr, generator.peak_formula.empty());
  if (generator.peak_activations == nullptr) GTEST_SKIP() << "no closed form is known";
  int compared = 0;
  for (const Size& size : sizes_of(generator)) {
    const Simulation run = simulate(generate(generator, size), UniformCost{});
    for (int rank = 0; rank < size.ranks; ++rank) {
      const std::optional<int> peak = generator.peak_activations(size, rank);
      if (!peak) continue;
      ASSERT_EQ(*peak, run.ranks[rank].peak_activations) << describe(generator, size, rank);
      ++compared;
    }
  }
  constexpr int kFewest = 20;
  EXPECT_GE(compared, kFewest);
}

std::string test_name(const testing::TestParamInfo<const Generator*>& generator) {
  std::string name(generator.param->name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Generators, ClosedFormTest, testing::ValuesIn(all_generators()), test_name);

}  // namespace
}  // namespace counterflow
