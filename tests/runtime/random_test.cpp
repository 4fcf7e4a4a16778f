#include "counterflow/runtime/random.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <thread>

namespace counterflow::runtime {
namespace {

/// One of each kind of operator that draws.
std::vector<at::Tensor> draw() {
  const at::Tensor x = torch::ones({4, 5});
  const at::Tensor q = torch::ones({1, 2, 4, 8});
  return {at::dropout(x, 0.5, true),
          at::randn({3}),
          at::randperm(9),
          at::rand_like(x),
          at::empty({3}).uniform_(),
          at::multinomial(torch::ones({6}), 2),
          at::rrelu(-x, 0.1, 0.3, true),
          at::bernoulli(at::full({50}, 0.5)),
          at::randint(1000, {5}),
          at::scaled_dot_product_attention(q, q, q, {}, 0.3)};
}

void expect_equal(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].equal(b[i])) << i;
}

TEST(RandomTest, AScopeDrawsWhatManualSeedDraws) {
  at::manual_seed(99);
  const std::vector<at::Tensor> expected = draw();
  const RandomScope scope(99);
  expect_equal(draw(), expected);
}

TEST(RandomTest, AScopeLeavesTheProcesssGeneratorAlone) {
  at::manual_seed(5);
  const at::Tensor expected = at::rand({4});
  at::manual_seed(5);
  {
    const RandomScope scope(1);
    draw();
  }
  EXPECT_TRUE(at::rand({4}).equal(expected));
}

TEST(RandomTest, ScopesNestAndEachThreadHasItsOwn) {
  std::vector<at::Tensor> alone;
  {
    const RandomScope scope(3);
    alone = draw();
  }
  const auto with_others = [&alone] {
    for (int i = 0; i < 20; ++i) {
      const RandomScope outer(3);
      {
        const RandomScope inner(4);
        at::rand({7});
      }
      expect_equal(draw(), alone);
    }
  };
  std::thread other(with_others);
  with_others();
  other.join();
}

TEST(RandomTest, AGeneratorThatIsGivenIsUsed) {
  const at::Generator given = at::detail::createCPUGenerator(11);
  const at::Tensor expected = at::rand({3}, given);
  const RandomScope scope(1);
  EXPECT_TRUE(at::rand({3}, at::detail::createCPUGenerator(11)).equal(expected));
}

TEST(RandomTest, SeedsDifferInEveryNumber) {
  const std::uint64_t seed = random_seed(1, 2, 3, 4);
  EXPECT_NE(seed, random_seed(2, 2, 3, 4));
  EXPECT_NE(seed, random_seed(1, 3, 3, 4));
  EXPECT_NE(seed, random_seed(1, 2, 4, 4));
  EXPECT_NE(seed, random_seed(1, 2, 3, 5));
  EXPECT_NE(random_seed(1, 2, 3, 4), random_seed(1, 2, 4, 3));
}

}  // namespace
}  // namespace counterflow::runtime
