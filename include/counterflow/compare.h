// What every generator would give for a number of ranks and micro-batches: the table to choose a schedule
// from.
//
// Rows are comparable since all costs are of the same slice of the model, a 1/P share for P ranks: a schedule
// with v stages a rank cuts each share into v stages with 1/v of its times and bytes. What crosses from one
// stage to the next is as large as before. Safe to call from any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/generate.h"

namespace counterflow {

/// An exact share of an integer: value over parts, parts at least 1.
struct Fraction {
  std::int64_t value = 0;
  std::int64_t parts = 1;

  double to_double() const { return static_cast<double>(value) / static_cast<double>(parts); }

  /// Exact: 51/2 equals 102/4.
  friend std::strong_ordering operator<=>(const Fraction& a, const Fraction& b);
  friend bool operator==(const Fraction& a, const Fraction& b) { return (a <=> b) == 0; }
};

/// "25.5": at most three decimals, no trailing zeros.
std::string to_string(const Fraction& fraction);

struct CompareOptions {
  int ranks = 0;
  int micro_batches = 0;

  /// The costs of a 1/ranks share: one StageCost for all shares or one for each, along the data's way.
  /// `overlaps` and `link_of` name shares and ranks. With memory_bytes, rows say whether they fit.
  CostModel costs;

  /// Leaves out what holds more activations on a rank, counted in those of a 1/ranks share.
  std::optional<std::int64_t> max_activations;

  /// What the generators that take a number of stages a rank are tried with.
  std::vector<int> stages_per_rank{2};

  /// Called before each of `total` schedules is made, where it is set.
  std::function<void(int done, int total)> progress;
};

/// One schedule. Times are in the unit of the costs.
struct ComparisonRow {
  const Generator* generator = nullptr;
  Size size;
  Fraction makespan;
  Fraction bubble;  ///< the largest idle of a rank
  double bubble_ratio = 0;
  Fraction peak_activations;  ///< on the rank that holds most, in activations of a 1/ranks share
  int receive_buffers = 0;    ///< of the channel that needs most

  // Bytes of the rank that needs most, rounded up; 0 where the costs have no bytes.
  int fullest_rank = 0;
  std::int64_t static_bytes = 0;  ///< parameters (each copy), gradients, optimizer state
  std::int64_t activation_bytes = 0;
  std::int64_t receive_bytes = 0;

  bool fits_memory = true;  ///< always where the costs name no memory

  std::int64_t total_bytes() const { return static_bytes + activation_bytes + receive_bytes; }
};

/// A schedule that is not in the table, and why.
struct ComparisonSkip {
  const Generator* generator = nullptr;
  Size size;
  std::string why;
};

struct Comparison {
  std::vector<ComparisonRow> rows;      ///< those that fit the memory first, then by makespan, peak, copies
  std::vector<ComparisonSkip> skipped;  ///< in the order of all_generators()
};

/// Throws InvalidConfig for ranks or micro-batches outside Placement's limits and for costs of another number
/// of shares than 1 or `ranks`.
Comparison compare(const CompareOptions& options);

}  // namespace counterflow
