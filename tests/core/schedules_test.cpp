// The files in schedules/, and the examples in its README.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"

namespace counterflow {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = COUNTERFLOW_SCHEDULES;

struct Shipped {
  const char* generator;
  Size size;
  std::vector<Claim> claims;

  std::string file() const {
    return std::string(generator) + "-" + std::to_string(size.ranks) + "x" +
           std::to_string(size.micro_batches) + ".csv";
  }
};

std::vector<Shipped> shipped() {
  const UniformCost unit{};
  const UniformCost alike{1, 1, 1, 3};
  const UniformCost faster{1, 1, 1, 2};
  return {
      {"1f1b", {4, 8}, {{9, unit}}},
      {"1f1b", {8, 16}, {{21, unit}}},
      {"zb-h1", {4, 8}, {{3, unit}}},
      {"zb-h1", {8, 16}, {{7, unit}}},
      {"zbv", {4, 8}, {{3, unit}}},
      {"zbv", {8, 16}, {{7, unit}}},
      {"dualpipe", {4, 8}, {{2, alike}, {1, faster}}},
      {"dualpipe", {4, 10}, {{2, alike}, {1, faster}}},
      {"dualpipe", {8, 20}, {{6, alike}, {3, faster}}},
      {"dualpipe-v", {4, 8}, {{6, alike}, {3, faster}}},
      {"dualpipe-v", {8, 20}, {{14, alike}, {7, faster}}},
  };
}

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// The fenced block of README.md that begins with `start`.
std::string example(const std::string& start) {
  const std::string readme = read(kFolder / "README.md");
  const std::size_t begin = readme.find(start);
  EXPECT_NE(begin, std::string::npos) << start;
  return readme.substr(begin, readme.find("```", begin) - begin);
}

TEST(SchedulesTest, AreWhatTheGeneratorsMake) {
  for (const Shipped& file : shipped()) {
    Schedule expected = generate(file.generator, file.size);
    expected.claims = file.claims;
    EXPECT_EQ(read(kFolder / file.file()), format(expected)) << file.file();
  }
}

TEST(SchedulesTest, KeepTheirClaims) {
  for (const Shipped& file : shipped()) {
    SCOPED_TRACE(file.file());
    const Schedule schedule = read_file((kFolder / file.file()).string());
    EXPECT_EQ(schedule.claims, file.claims);
    for (const Claim& claim : schedule.claims) EXPECT_EQ(simulate(schedule, claim.cost).bubble, claim.bubble);
    EXPECT_TRUE(verify(schedule).ok());
  }
}

TEST(SchedulesTest, AreAllKnownAndNamedInTheReadme) {
  std::set<std::string> known, found;
  const std::string readme = read(kFolder / "README.md");
  for (const Shipped& file : shipped()) {
    known.insert(file.file());
    EXPECT_NE(readme.find("`" + file.file() + "`"), std::string::npos) << file.file();
  }
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    if (entry.path().extension() == ".csv") found.insert(entry.path().filename().string());
  }
  EXPECT_EQ(found, known);
}

TEST(SchedulesTest, ReadmeShowsDualPipe) {
  Schedule expected = generate("dualpipe", {2, 4});
  expected.claims = {{0, {1, 1, 1, 3}}};
  EXPECT_EQ(example("# counterflow schedule v1"), format(expected));
  EXPECT_EQ(simulate(expected, expected.claims[0].cost).bubble, 0);
}

TEST(SchedulesTest, ReadmeShowsACostFile) {
  const CostModel costs = parse_cost_model(example("{\n  \"unit\""));
  EXPECT_EQ(costs.stages.size(), 4U);
  EXPECT_EQ(costs.overlaps.size(), 2U);
  EXPECT_EQ(costs.link_of.size(), 2U);
  EXPECT_GT(simulate(generate("dualpipe", {4, 8}), costs).makespan, 0);
}

}  // namespace
}  // namespace counterflow
