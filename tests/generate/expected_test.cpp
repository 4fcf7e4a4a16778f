// What an independent simulator says of the peers' own orders of action, under several costs and transfer
// times, against our simulation of ours. tests/data/golden/README.md says where the rows come from.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "counterflow/generate.h"
#include "counterflow/simulate.h"

namespace counterflow {
namespace {

/// A peer's schedule whose order of actions ours equals.
struct Known {
  const char* generator;
  int rows;  ///< so that none is lost on the way
};

const std::map<std::string, Known> kKnown = {
    {"deepseek,dualpipe", {"dualpipe", 63}},
    {"deepseek,dualpipev", {"dualpipe-v", 117}},
    {"sail-sg,basic1f1b", {"1f1b", 20}},
    {"sail-sg,vpp", {"interleaved-1f1b", 60}},
    {"torch2.11,ScheduleDualPipeV", {"dualpipe-v", 99}},
    {"torch2.11,ScheduleGPipe", {"gpipe", 85}},
    {"torch2.11,ScheduleInterleaved1F1B", {"interleaved-1f1b", 255}},
    {"torch2.11,ScheduleInterleavedZeroBubble", {"interleaved-zero-bubble", 340}},
    {"torch2.11,ScheduleLoopedBFS", {"looped-bfs", 255}},
    {"torch2.11,ScheduleZBVZeroBubble", {"zbv", 85}},
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

/// One number for each rank: "3|2|2|3".
template <typename Get>
std::string each_rank(const Simulation& run, Get get) {
  std::string text;
  for (const RankResult& rank : run.ranks) text += (text.empty() ? "" : "|") + std::to_string(get(rank));
  return text;
}

TEST(ExpectedTest, SimulationAgreesWithEveryRowOfAKnownOrder) {
  std::ifstream file(COUNTERFLOW_TEST_DATA "/golden/expected.csv");
  std::map<std::string, int> rows;
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> cell = split(line, ',');
    const auto known = kKnown.find(cell[0] + "," + cell[1]);
    if (known == kKnown.end() || cell[11] != "ok") continue;
    SCOPED_TRACE(line);
    const auto number = [&](int column) { return std::stoi(cell[column]); };
    UniformCost cost{.f = number(5), .i = number(6), .w = number(7), .fb = {}};
    if (!cell[8].empty()) cost.fb = number(8);
    const Generator& generator = find_generator(known->second.generator);
    const int stages = generator.copies == 2 ? 1 : number(3);
    const Simulation run = simulate(generate(generator, {number(2), number(4), stages}), {cost, number(9)});
    EXPECT_EQ(std::to_string(run.makespan), cell[12]);
    EXPECT_EQ(each_rank(run, [](const RankResult& r) { return r.idle; }), cell[13]);
    EXPECT_EQ(each_rank(run, [](const RankResult& r) { return r.span_idle; }), cell[14]);
    EXPECT_EQ(each_rank(run, [](const RankResult& r) { return r.peak_activations; }), cell[15]);
    ++rows[known->first];
    if (HasFailure()) return;
  }
  for (const auto& [peer, known] : kKnown) EXPECT_EQ(rows[peer], known.rows) << peer;
}

}  // namespace
}  // namespace counterflow
