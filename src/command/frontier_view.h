// What `search --pareto` prints and writes.
#pragma once

#include <string>

#include "counterflow/frontier.h"

namespace counterflow::command {

/// "2.csv": the file of the second point in the folder of a frontier.
std::string point_file(std::size_t index);

/// A table of the points.
std::string frontier_text(const Frontier& frontier);

/// The same as JSON.
std::string frontier_json(const Frontier& frontier);

/// Writes each point's schedule and a plot, frontier.svg, into a folder, which is made where there is none.
void write_frontier(const Frontier& frontier, const std::string& folder, const std::string& title);

}  // namespace counterflow::command
