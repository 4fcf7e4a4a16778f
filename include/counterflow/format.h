// Schedules as text: Counterflow's file format, PyTorch's schedule CSV, JSON.
//
// schedules/README.md has the grammar. Readers are strict and safe on hostile input: an error names
// file:line:column and what was expected, and memory stays proportional to the input.
// All functions may be called from any thread.
#pragma once

#include <string>
#include <string_view>

#include "counterflow/schedule.h"

namespace counterflow {

/// Reads Counterflow's format (first line `# counterflow schedule v1`) or, where that line is missing, a
/// schedule CSV of PyTorch's, whose placement is inferred. `file` is the name that errors show. Throws
/// ParseError. A schedule that was read may still be wrong: verify() judges it.
Schedule parse(std::string_view text, const std::string& file = "<text>");

/// Reads a file, or standard input where `path` is "-". Throws ParseError, or Error where it cannot be read.
Schedule read_file(const std::string& path);

/// Counterflow's format. parse(format(s)) == s, be s right or wrong. Throws InvalidConfig for what no file
/// can hold: no placement, another number of lists than ranks, a negative number, a pair that is no F and B,
/// a placement that is huge beside the actions (schedules/README.md).
std::string format(const Schedule& schedule);

/// PyTorch's schedule CSV. Throws InvalidConfig, naming what, for a schedule that PyTorch cannot express: a
/// stage on two ranks, or passes of forward only.
std::string format_torch(const Schedule& schedule);

/// A JSON object with name, ranks, stages, micro_batches, passes, directions, claims, and actions as a list
/// of texts for each rank.
std::string format_json(const Schedule& schedule);

/// A name as part of a line that people or CI systems read, whatever a file says: U+FFFD for each byte that
/// is no UTF-8, `?` for control characters, so that it can neither begin a line nor move a terminal's cursor,
/// and "..." for what follows 4096 bytes.
std::string printable(std::string_view name);

/// Writes a text to a file, whole or not at all, or to standard output where `path` is "-". Throws Error.
void write_file(const std::string& path, std::string_view text);

}  // namespace counterflow
