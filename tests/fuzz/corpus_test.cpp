// Runs the fuzz targets over the inputs in corpus/: those that once reached new code, or once broke
// something.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

// The targets' LLVMFuzzerTestOneInput, renamed where they are compiled for this test.
extern "C" int fuzz_parse(const std::uint8_t* data, std::size_t size);
extern "C" int fuzz_cost_file(const std::uint8_t* data, std::size_t size);
extern "C" int fuzz_run(const std::uint8_t* data, std::size_t size);

namespace counterflow {
namespace {

namespace fs = std::filesystem;

int replay(const char* folder, int (*target)(const std::uint8_t*, std::size_t)) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(COUNTERFLOW_FUZZ_CORPUS) / folder)) {
    SCOPED_TRACE(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    EXPECT_TRUE(file);
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    EXPECT_EQ(target(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()), 0);
    ++count;
  }
  return count;
}

TEST(CorpusTest, SchedulesAreReadOrRefused) {
  EXPECT_GT(replay("schedule", fuzz_parse), 0);
}

TEST(CorpusTest, CostFilesAreReadOrRefused) {
  EXPECT_GT(replay("cost_file", fuzz_cost_file), 0);
}

TEST(CorpusTest, RecordingsAndTracesAreReadOrRefused) {
  EXPECT_GT(replay("run", fuzz_run), 0);
}

}  // namespace
}  // namespace counterflow
