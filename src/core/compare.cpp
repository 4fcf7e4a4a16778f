#include "counterflow/compare.h"

#include <algorithm>
#include <tuple>

#include "counterflow/error.h"
#include "counterflow/simulate.h"
#include "shares.h"

namespace counterflow {
namespace {

std::int64_t divided_up(std::int64_t value, std::int64_t parts) {
  return value / parts + (value % parts != 0 ? 1 : 0);
}

/// Whether a number of shares, of which a rank holds so much, fits into what it has for them.
bool fits(std::int64_t bytes, int parts, std::int64_t memory_bytes) {
  return memory_bytes == 0 || divided_up(bytes, parts) <= memory_bytes;
}

void fill_memory(ComparisonRow& row, const Simulation& run, int parts, const CostModel& shares) {
  std::int64_t most = -1;
  for (std::size_t rank = 0; rank < run.ranks.size(); ++rank) {
    const RankResult& result = run.ranks[rank];
    const std::int64_t total = result.static_bytes + result.peak_activation_bytes + result.receive_bytes;
    row.fits_memory &= fits(total, parts, shares.memory(static_cast<int>(rank)));
    if (total <= most) continue;
    most = total;
    row.fullest_rank = static_cast<int>(rank);
    row.static_bytes = divided_up(result.static_bytes, parts);
    row.activation_bytes = divided_up(result.peak_activation_bytes, parts);
    row.receive_bytes = divided_up(result.receive_bytes, parts);
  }
}

ComparisonRow measure(const Generator& generator, const Size& size, const Schedule& schedule,
                      const CostModel& shares) {
  const int parts = schedule.num_stages() / schedule.num_ranks();
  const Simulation run = simulate(schedule, cut_shares(shares, size.ranks, parts));
  ComparisonRow row;
  row.generator = &generator;
  row.size = size;
  row.makespan = {run.makespan, parts};
  row.bubble = {run.bubble, parts};
  row.bubble_ratio = run.bubble_ratio();
  row.peak_activations = {run.peak_activations(), parts};
  row.receive_buffers = run.receive_buffers();
  fill_memory(row, run, parts, shares);
  return row;
}

/// The schedule, or nothing and a line about why: some sizes fit but are too large.
std::optional<Schedule> try_generate(const Generator& generator, const Size& size,
                                     std::vector<ComparisonSkip>& skipped) {
  if (!generator.fits(size)) {
    skipped.push_back({&generator, size, "needs " + std::string(generator.constraint)});
    return std::nullopt;
  }
  try {
    return generate(generator, size);
  } catch (const InvalidConfig& error) {
    skipped.push_back({&generator, size, error.what()});
    return std::nullopt;
  }
}

struct Candidate {
  const Generator* generator;
  Size size;
};

std::vector<Candidate> candidates(const CompareOptions& options) {
  std::vector<Candidate> found;
  for (const Generator* generator : all_generators()) {
    const Size size{options.ranks, options.micro_batches, generator->stages_per_rank};
    if (!generator->takes_stages_per_rank) {
      found.push_back({generator, size});
      continue;
    }
    for (const int stages : options.stages_per_rank)
      found.push_back({generator, {size.ranks, size.micro_batches, stages}});
  }
  return found;
}

void check_options(const CompareOptions& options) {
  const auto check_count = [](const char* what, std::int64_t found, std::int64_t most) {
    if (found < 1 || found > most) {
      throw InvalidConfig(std::string("number of ") + what + ": expected 1 to " + std::to_string(most) +
                          ", found " + std::to_string(found));
    }
  };
  check_count("ranks", options.ranks, Placement::kMaxRanks);
  check_count("micro-batches", options.micro_batches, Placement::kMaxMicroBatches);
  for (const int stages : options.stages_per_rank)
    check_count("stages a rank", stages, Placement::kMaxStages / options.ranks);
  // One share a rank: the costs are of as many stages as there are ranks.
  options.costs.check(options.ranks, options.ranks);
}

bool better(const ComparisonRow& a, const ComparisonRow& b) {
  if (a.fits_memory != b.fits_memory) return a.fits_memory;
  return std::tuple(a.makespan, a.peak_activations, a.generator->copies) <
         std::tuple(b.makespan, b.peak_activations, b.generator->copies);
}

}  // namespace

std::strong_ordering operator<=>(const Fraction& a, const Fraction& b) {
  // Products of a time below 2^63 and a few stages a rank fit 128 bits.
  __extension__ using Wide = __int128;
  const Wide left = static_cast<Wide>(a.value) * b.parts;
  const Wide right = static_cast<Wide>(b.value) * a.parts;
  return left < right   ? std::strong_ordering::less
         : left > right ? std::strong_ordering::greater
                        : std::strong_ordering::equal;
}

std::string to_string(const Fraction& fraction) {
  std::string text = std::to_string(fraction.value / fraction.parts);
  const std::int64_t rest = fraction.value % fraction.parts;
  if (rest == 0) return text;
  std::string decimals = std::to_string((rest * 1000 + fraction.parts / 2) / fraction.parts + 1000);
  if (decimals[0] == '2') return std::to_string(fraction.value / fraction.parts + 1);
  decimals.erase(decimals.find_last_not_of('0') + 1);
  return decimals.size() == 1 ? text : text + "." + decimals.substr(1);
}

Comparison compare(const CompareOptions& options) {
  check_options(options);
  Comparison comparison;
  const std::vector<Candidate> all = candidates(options);
  for (std::size_t index = 0; index < all.size(); ++index) {
    const auto& [generator, size] = all[index];
    if (options.progress) options.progress(static_cast<int>(index), static_cast<int>(all.size()));
    const std::optional<Schedule> schedule = try_generate(*generator, size, comparison.skipped);
    if (!schedule) continue;
    ComparisonRow row = measure(*generator, size, *schedule, options.costs);
    if (options.max_activations && row.peak_activations > Fraction{*options.max_activations, 1}) {
      comparison.skipped.push_back({generator, size,
                                    "holds " + to_string(row.peak_activations) +
                                        " activations of a share, more than " +
                                        std::to_string(*options.max_activations)});
      continue;
    }
    comparison.rows.push_back(row);
  }
  std::stable_sort(comparison.rows.begin(), comparison.rows.end(), better);
  return comparison;
}

}  // namespace counterflow
