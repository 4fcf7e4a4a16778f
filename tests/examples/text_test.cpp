#include "text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "counterflow/error.h"
#include "runtime/temporary_folder.h"

namespace train_gpt {
namespace {

std::string write(const TemporaryFolder& folder, const std::string& name, const std::string& text) {
  std::ofstream(folder / name, std::ios::binary) << text;
  return folder / name;
}

/// Paragraphs that differ from one another.
std::string paragraphs(int first, int last) {
  std::string text;
  for (int i = first; i < last; ++i) text += "This is paragraph number " + std::to_string(i) + ".\n\n";
  return text;
}

TEST(TextTest, BigramEntropyOfAFairCoin) {
  // After an a comes a b or a c, each as often; after both comes an a.
  std::string text;
  for (int i = 0; i < 10000; ++i) text += "abac";
  EXPECT_NEAR(bigram_entropy(text), 0.5 * std::log(2.0), 1e-4);
  EXPECT_EQ(bigram_entropy("aaaaaaaa"), 0);
  EXPECT_EQ(bigram_entropy(""), 0);
}

TEST(TextTest, HoldsOutATenth) {
  const TemporaryFolder folder;
  const Text text = read_text({write(folder, "a", paragraphs(0, 10000))}, 16);
  EXPECT_NEAR(static_cast<double>(text.held_out.size()) / static_cast<double>(text.training.size()), 1.0 / 9,
              0.02);
  EXPECT_EQ(text.num_files, 1U);
}

TEST(TextTest, DropsParagraphsThatCameBefore) {
  const TemporaryFolder folder;
  const std::string once = write(folder, "a", paragraphs(0, 5000));
  std::string reflowed = paragraphs(0, 5000);
  for (std::size_t at = 0; (at = reflowed.find(" paragraph", at)) != std::string::npos;) reflowed[at] = '\n';
  const Text text = read_text({once}, 16);
  const Text twice = read_text({once, write(folder, "b", reflowed)}, 16);
  EXPECT_EQ(twice.training, text.training);
  EXPECT_EQ(twice.digest, text.digest);
  EXPECT_NE(read_text({write(folder, "c", paragraphs(1, 5001))}, 16).digest, text.digest);
}

TEST(TextTest, SaysWhatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_THROW(read_text({folder / "nothing"}, 16), counterflow::Error);
  EXPECT_THROW(read_text({folder.path()}, 16), counterflow::Error);
  try {
    read_text({write(folder, "short", "too short")}, 16);
    FAIL();
  } catch (const counterflow::Error& error) {
    EXPECT_NE(std::string(error.what()).find("name more files"), std::string::npos) << error.what();
  }
}

TEST(TextTest, SequencesStayInsideAndReachBothEnds) {
  constexpr std::size_t kSize = 50, kLength = 40;
  std::size_t first = kSize, last = 0;
  for (std::uint64_t index = 0; index < 1000; ++index) {
    const std::size_t start = sequence_start(1, index, kSize, kLength);
    ASSERT_LE(start + kLength, kSize);
    first = std::min(first, start);
    last = std::max(last, start);
  }
  EXPECT_EQ(first, 0U);
  EXPECT_EQ(last, kSize - kLength);
}

}  // namespace
}  // namespace train_gpt
