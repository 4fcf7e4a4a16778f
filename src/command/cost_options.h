// --cost, --p2p and --cost-file: the costs that several verbs run a schedule under.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "counterflow/cost_model.h"

namespace counterflow::command {

struct CostOptions {
  std::string cost;
  std::string cost_file;
  Time p2p = 0;

  void add_to(CLI::App& app);

  /// Whether any were given on the command line.
  bool given() const { return !cost.empty() || !cost_file.empty() || p2p != 0; }

  /// Throws ParseError or InvalidConfig.
  CostModel read() const;

  /// What read() reads, in a few words: "f=1,i=1,w=1, transfers 2" or "costs of model.json".
  std::string describe() const;
};

/// "memory of a rank: 2.00 KiB" as a line, and where the costs have no bytes that everything fits; "" where
/// no memory is known.
std::string memory_line(const CostModel& costs);

}  // namespace counterflow::command
