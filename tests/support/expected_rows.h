// What an independent simulator says of the peers' schedules: tests/data/golden/expected.csv, for tests that
// want no more of a row than its makespan and memory.
#pragma once

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "counterflow/cost.h"
#include "counterflow/generate.h"

namespace counterflow::testing {

struct ExpectedRow {
  std::string line;
  std::string schedule;
  Size size;
  UniformCost cost;
  Time p2p = 0;
  std::string made_for;  ///< what a search was tuned to: "gen(f=1,b=1,w=1,c=0,max_mem=14)"
  bool ok = false;
  Time makespan = 0;
  int peak = 0;  ///< activations, until W, of the rank that holds most
};

/// Whether a search made the row's schedule for the very costs of the row.
inline bool is_tuned(const ExpectedRow& row) {
  const std::string costs = "gen(f=" + std::to_string(row.cost.f) + ",b=" + std::to_string(row.cost.i) +
                            ",w=" + std::to_string(row.cost.w) + ",c=" + std::to_string(row.p2p) + ",";
  return row.ok && row.made_for.starts_with(costs);
}

inline std::vector<ExpectedRow> read_expected_rows() {
  std::ifstream file(COUNTERFLOW_TEST_DATA "/golden/expected.csv");
  std::vector<ExpectedRow> rows;
  std::string line;
  std::getline(file, line);  // the columns' names
  while (std::getline(file, line)) {
    std::vector<std::string> cells(1);
    bool quoted = false;
    for (const char c : line) {
      if (c == '"') quoted = !quoted;
      if (c == ',' && !quoted) cells.emplace_back();
      if (c != '"' && (c != ',' || quoted)) cells.back() += c;
    }
    const auto number = [&](int column) { return std::stoi(cells.at(column)); };
    ExpectedRow& row = rows.emplace_back();
    row.line = line;
    row.schedule = cells.at(1);
    row.made_for = cells.at(10);
    row.ok = cells.at(11) == "ok";
    if (!row.ok) continue;
    row.size = {number(2), number(4), number(3)};
    row.cost = {.f = number(5), .i = number(6), .w = number(7), .fb = {}};
    if (!cells[8].empty()) row.cost.fb = number(8);
    row.p2p = number(9);
    row.makespan = number(12);
    std::istringstream peaks(cells.at(15));
    for (std::string peak; std::getline(peaks, peak, '|');) row.peak = std::max(row.peak, std::stoi(peak));
  }
  return rows;
}

}  // namespace counterflow::testing
