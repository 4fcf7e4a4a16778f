// What was found about schedule files, in the forms that people and CI systems read.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/check.h"
#include "counterflow/program.h"
#include "counterflow/schedule.h"

namespace counterflow {

/// One file: read and judged, or not readable.
struct FileReport {
  std::string file;
  Schedule schedule;
  Judgement judgement;
  std::optional<Program> program;       ///< where the file is lowered and its schedule can run
  Verdict program_verdict;              ///< on that; a step is the position in the rank's program
  std::vector<std::size_t> rank_lines;  ///< the file's line of each rank, from 1; empty where not known

  /// Why the file could not be read or judged; nothing else is set then.
  std::optional<std::string> error;
  std::size_t error_line = 0;  ///< 0 where not known
  std::size_t error_column = 0;

  bool ok() const { return !error && judgement.verdict.ok() && program_verdict.ok(); }
};

/// Reads a file ("-": standard input) and judges it: its schedule, and where it is lowered its program, with
/// options.receive_buffers as the most that a channel may have. Throws nothing for a bad file: that is in the
/// report.
FileReport judge_file(const std::string& path, const VerifyOptions& options, const CostModel& costs,
                      const Limits& limits);

/// For people: a line a file, and below it the grid with the culprits marked, which keeps to `max_width`
/// columns (draw()); `colour` as terminals understand it.
std::string report_text(std::span<const FileReport> files, bool colour = false,
                        std::size_t max_width = std::string::npos);

/// An object with `ok` and `files`, each with `file`, `ok`, `error` or `diagnostics` and what was simulated.
std::string report_json(std::span<const FileReport> files);

/// JUnit's XML, a test case a file.
std::string report_junit(std::span<const FileReport> files);

/// GitHub's workflow commands, an annotation a diagnostic at the line of its rank.
std::string report_github(std::span<const FileReport> files);

}  // namespace counterflow
