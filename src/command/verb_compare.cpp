#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "checks.h"
#include "cost_options.h"
#include "counterflow/compare.h"
#include "counterflow/format.h"
#include "ranges.h"
#include "table.h"
#include "terminal.h"
#include "units.h"
#include "verb.h"

namespace counterflow::command {
namespace {

using nlohmann::ordered_json;

struct Options {
  CompareOptions compare;
  CostOptions costs;
  std::optional<std::string> stages_per_rank;
  std::string memory;
  bool json = false;
};

bool has_bytes(const Comparison& comparison) {
  for (const ComparisonRow& row : comparison.rows) {
    if (row.total_bytes() > 0) return true;
  }
  return false;
}

/// The name, and the number of stages a rank where the generator leaves the choice.
std::string label(const Generator& generator, const Size& size) {
  const std::string name(generator.name);
  return generator.takes_stages_per_rank ? name + ", " + plural(size.stages_per_rank, "stage") + " a rank"
                                         : name;
}

std::string table_text(const Comparison& comparison, bool has_memory) {
  if (comparison.rows.empty()) return "  no schedule fits\n";
  const bool bytes = has_bytes(comparison);
  std::vector<Table::Column> columns = {{"schedule", Table::Align::kLeft},
                                        {"makespan"},
                                        {"bubble"},
                                        {"ratio"},
                                        {"peak activations"},
                                        {"parameters"},
                                        {"stages/rank"}};
  if (bytes) {
    for (const char* name : {"parameters etc.", "activations", "receive buffers", "memory"})
      columns.push_back({name});
    if (has_memory) columns.push_back({"fits"});
  }
  Table table(columns);
  for (const ComparisonRow& row : comparison.rows) {
    std::vector<std::string> cells = {std::string(row.generator->name),
                                      to_string(row.makespan),
                                      to_string(row.bubble),
                                      percent(row.bubble_ratio),
                                      to_string(row.peak_activations),
                                      std::to_string(row.generator->copies) + "x",
                                      std::to_string(row.size.stages_per_rank)};
    if (bytes) {
      for (const std::int64_t part :
           {row.static_bytes, row.activation_bytes, row.receive_bytes, row.total_bytes()})
        cells.push_back(bytes_text(part));
      if (has_memory) cells.push_back(row.fits_memory ? "yes" : "no");
    }
    table.add_row(cells);
  }
  return table.to_string();
}

std::string skipped_text(const Comparison& comparison) {
  if (comparison.skipped.empty()) return "";
  Table table({{"left out", Table::Align::kLeft}, {"why", Table::Align::kLeft}});
  for (const ComparisonSkip& skip : comparison.skipped)
    table.add_row({label(*skip.generator, skip.size), skip.why});
  return "\n" + table.to_string();
}

std::string comparison_text(const Comparison& comparison, const Options& options, const CostModel& costs) {
  std::string text = plural(options.compare.ranks, "rank") + " x " +
                     plural(options.compare.micro_batches, "micro-batch", "es") + "; " +
                     options.costs.describe() + "; costs and activations are of a 1/" +
                     std::to_string(options.compare.ranks) + " share of the model\n";
  return text + memory_line(costs) + "\n" + table_text(comparison, costs.has_memory()) +
         skipped_text(comparison);
}

/// A number: whole where it is.
ordered_json number(const Fraction& fraction) {
  if (fraction.value % fraction.parts == 0) return fraction.value / fraction.parts;
  return fraction.to_double();
}

std::string comparison_json(const Comparison& comparison, const CompareOptions& options) {
  ordered_json rows = ordered_json::array();
  for (const ComparisonRow& row : comparison.rows) {
    rows.push_back({{"name", row.generator->name},
                    {"stages_per_rank", row.size.stages_per_rank},
                    {"makespan", number(row.makespan)},
                    {"bubble", number(row.bubble)},
                    {"bubble_ratio", row.bubble_ratio},
                    {"peak_activations", number(row.peak_activations)},
                    {"parameters", row.generator->copies},
                    {"receive_buffers", row.receive_buffers},
                    {"fullest_rank", row.fullest_rank},
                    {"static_bytes", row.static_bytes},
                    {"activation_bytes", row.activation_bytes},
                    {"receive_bytes", row.receive_bytes},
                    {"total_bytes", row.total_bytes()},
                    {"fits_memory", row.fits_memory}});
  }
  ordered_json skipped = ordered_json::array();
  for (const ComparisonSkip& skip : comparison.skipped) {
    skipped.push_back(
        {{"name", skip.generator->name}, {"stages_per_rank", skip.size.stages_per_rank}, {"why", skip.why}});
  }
  const ordered_json json{{"ranks", options.ranks},
                          {"micro_batches", options.micro_batches},
                          {"rows", rows},
                          {"skipped", skipped}};
  return json.dump(2) + "\n";
}

ExitStatus run(Options options) {
  options.compare.costs = options.costs.read();
  if (!options.memory.empty()) {
    options.compare.costs.memory_bytes = parse_bytes(options.memory);
    options.compare.costs.memory_of_rank.clear();
  }
  if (options.stages_per_rank) {
    options.compare.stages_per_rank =
        parse_ranges("--stages-per-rank", *options.stages_per_rank, Placement::kMaxStages);
  }
  Comparison comparison;
  {
    Progress progress("comparing");
    options.compare.progress = [&](int done, int total) { progress.set(done, total); };
    comparison = compare(options.compare);
  }
  write_file("-", options.json ? comparison_json(comparison, options.compare)
                               : comparison_text(comparison, options, options.compare.costs));
  return kOk;
}

}  // namespace

Verb compare_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "compare",
      "What every generator that fits would give, best first: the table to choose a schedule from");
  verb->add_option("--ranks", options->compare.ranks, "Ranks of the pipeline")
      ->required()
      ->check(whole_number(1, Placement::kMaxRanks))
      ->type_name("P");
  verb->add_option("--micro-batches", options->compare.micro_batches, "Micro-batches of a step")
      ->required()
      ->check(whole_number(1, Placement::kMaxMicroBatches))
      ->type_name("M");
  verb->add_option("--stages-per-rank", options->stages_per_rank,
                   "Stages a rank for the schedules that leave the choice, like 4, or 2,4, or 2-4 (2)")
      ->type_name("V");
  options->costs.add_to(*verb);
  verb->add_option("--max-activations", options->compare.max_activations,
                   "Most activations on a rank, counted in those of a 1/ranks share of the model")
      ->check(whole_number(0, kMaxCount))
      ->type_name("N");
  verb->add_option("--memory", options->memory, "Memory of a rank, like 80GiB (that of the cost file)")
      ->type_name("BYTES");
  verb->add_flag("--json", options->json, "JSON");
  verb->footer("\nExample:\n  counterflow compare --ranks 8 --micro-batches 32 --cost f=2,i=2,w=1,fb=4");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
