// Every known pipeline schedule, by name.
//
// A generator is one file in src/generate and one line in its registry (src/generate/registry.cpp). What it
// generates passes verify(); the order of actions equals that of the program it is named after.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "counterflow/cost.h"
#include "counterflow/schedule.h"

namespace counterflow {

/// What a generator is asked for. `stages_per_rank` 0 means the generator's own number.
struct Size {
  int ranks = 0;
  int micro_batches = 0;
  int stages_per_rank = 0;
};

/// A generator and what is known of its schedules. All texts live as long as the program.
struct Generator {
  std::string_view name;        ///< "dualpipe"
  std::string_view summary;     ///< one line for `counterflow list`
  std::string_view source;      ///< the paper or program, and the section
  std::string_view constraint;  ///< in words: "ranks even, micro-batches even and at least 2 x ranks"
  int copies = 1;               ///< of the parameters: 1, or 2 where every stage lives on two ranks
  int stages_per_rank = 1;      ///< for one direction; the default where takes_stages_per_rank
  bool takes_stages_per_rank = false;

  /// Whether the constraint holds. Sizes come with stages_per_rank filled in and all numbers at least 1.
  bool (*fits)(const Size& size) = nullptr;

  /// The schedule for a size that fits.
  Schedule (*make)(const Size& size) = nullptr;

  std::string_view bubble_formula =
      {};  ///< of the rank with the largest bubble, or of every rank, in words; may be ""
  std::string_view peak_formula = {};  ///< stage activations held at most, in words; may be ""

  /// makespan - busy of a rank without transfer times, exactly, or nothing where no closed form is known for
  /// the size and costs. Null where none is known at all.
  std::optional<Time> (*bubble)(const Size& size, const UniformCost& cost, int rank) = nullptr;

  /// The most stage activations a rank holds (from the start of F to the end of B or W), or nothing. Depends
  /// on the order of actions alone, not on costs.
  std::optional<int> (*peak_activations)(const Size& size, int rank) = nullptr;
};

/// All generators, in the order in which they are best read.
std::span<const Generator* const> all_generators();

/// Throws InvalidConfig with the nearest name where there is no such generator.
const Generator& find_generator(std::string_view name);

/// Checks the size and makes the schedule. Throws InvalidConfig naming the constraint and the nearest sizes
/// that work. Also throws where ranks or micro-batches exceed Placement's limits.
Schedule generate(const Generator& generator, Size size);
Schedule generate(std::string_view name, Size size);

}  // namespace counterflow
