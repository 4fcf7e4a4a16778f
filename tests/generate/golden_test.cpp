// The orders of action that the peers' own programs give, against ours, cell by cell.
// tests/data/golden/README.md says where each file comes from.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "counterflow/generate.h"

namespace counterflow {
namespace {

namespace fs = std::filesystem;

using Grid = std::vector<std::vector<std::string>>;  // [rank][step]

/// A golden file: its name says the generator and the size.
struct Golden {
  fs::path path;
  std::string generator;
  Size size;
};

/// "torch_NAME_PxVxM" or "NAME_PxM".
Golden describe(const fs::path& path) {
  Golden golden{path, path.stem().string(), {}};
  const bool from_torch = golden.generator.starts_with("torch_");
  if (from_torch) golden.generator.erase(0, std::string("torch_").size());
  const auto underscore = golden.generator.rfind('_');
  const std::string size = golden.generator.substr(underscore + 1);
  golden.generator.erase(underscore);
  int first = 0, second = 0, third = 0;
  std::sscanf(size.c_str(), "%dx%dx%d", &first, &second, &third);
  golden.size = from_torch ? Size{first, third, second} : Size{first, second};
  return golden;
}

std::vector<Golden> golden_files() {
  std::vector<Golden> files;
  std::error_code missing;  // leaves the list empty, which AreAllThere reports
  for (const auto& entry : fs::directory_iterator(fs::path(COUNTERFLOW_TEST_DATA) / "golden", missing)) {
    if (entry.path().extension() != ".csv" || entry.path().stem() == "expected") continue;
    files.push_back(describe(entry.path()));
  }
  std::sort(files.begin(), files.end(), [](const Golden& a, const Golden& b) { return a.path < b.path; });
  return files;
}

/// Cells between commas; an empty one is an idle slot of torch's drawing and no part of the order.
Grid read_cells(const fs::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  Grid grid;
  for (std::string line; std::getline(file, line);) {
    std::vector<std::string>& cells = grid.emplace_back();
    std::string cell;
    for (const char c : line + ",") {
      if (c != ',') {
        if (c != ' ' && c != '\r') cell += c;
      } else if (!cell.empty()) {
        cells.push_back(std::exchange(cell, {}));
      }
    }
  }
  return grid;
}

Grid cells_of(const Schedule& schedule) {
  Grid grid;
  for (const std::vector<Action>& actions : schedule.actions) {
    std::vector<std::string>& cells = grid.emplace_back();
    for (const Action& action : actions) cells.push_back(to_string(action));
  }
  return grid;
}

void PrintTo(const Golden& golden, std::ostream* out) {
  *out << golden.path.stem().string();
}

class GoldenTest : public testing::TestWithParam<Golden> {};

TEST_P(GoldenTest, OrderOfActionsEqualsThePeers) {
  const Grid expected = read_cells(GetParam().path);
  const Grid found = cells_of(generate(GetParam().generator, GetParam().size));
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(GetParam().size.ranks));
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t rank = 0; rank < expected.size(); ++rank) {
    ASSERT_FALSE(expected[rank].empty()) << "rank " << rank;
    EXPECT_EQ(found[rank], expected[rank]) << "rank " << rank;
  }
}

std::string test_name(const testing::TestParamInfo<Golden>& file) {
  std::string name = file.param.path.stem().string();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenTest, testing::ValuesIn(golden_files()), test_name);

// So that a file that is lost, or a directory that is not found, does not pass for a test.
TEST(GoldenFilesTest, AreAllThere) {
  std::map<std::string, int> count;
  for (const Golden& golden : golden_files()) ++count[golden.generator];
  const std::map<std::string, int> expected = {
      {"dualpipe", 4},   {"dualpipe-v", 5},
      {"gpipe", 8},      {"interleaved-1f1b", 11},
      {"looped-bfs", 9}, {"interleaved-zero-bubble", 18},
      {"zbv", 7},
  };
  EXPECT_EQ(count, expected);
}

}  // namespace
}  // namespace counterflow
