#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "checks.h"
#include "cost_options.h"
#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/search.h"
#include "counterflow/simulate.h"
#include "frontier_view.h"
#include "interrupt.h"
#include "ranges.h"
#include "table.h"
#include "terminal.h"
#include "units.h"
#include "verb.h"

namespace counterflow::command {
namespace {

using nlohmann::ordered_json;

struct Options {
  SearchRequest request;
  CostOptions costs;
  std::vector<std::string> placements;
  std::optional<std::string> stages_per_rank;
  std::string memory;
  bool pareto = false;
  int limits = 8;
  bool json = false;
  std::string output;
};

/// "loop, 2 stages a rank"
std::string label(const SearchFamily& family) {
  const std::string name(placement_kind_name(family.placement));
  return family.placement == PlacementKind::kLoop
             ? name + ", " + plural(family.stages_per_rank, "stage") + " a rank"
             : name;
}

/// What the costs and activations are of.
std::string unit_text(const SearchRequest& request, const SearchResult& result) {
  const std::string what = request.costs.layers.empty() ? "costs and activations are" : "activations are";
  return result.families.size() == 1
             ? what + " of a stage"
             : what + " of a 1/" + std::to_string(request.ranks) + " share of the model";
}

/// "layers of each stage, v: 3 4 4 5"
std::string layers_text(const SearchResult& result) {
  std::string text;
  for (const SearchFamily& family : result.families) {
    if (!family.feasible || family.layers.empty()) continue;
    text += "\nlayers of each stage, " + label(family) + ":";
    for (const int layers : family.layers) text += " " + std::to_string(layers);
  }
  return text.empty() ? text : text + "\n";
}

std::string families_text(const SearchResult& result) {
  Table table({{"placement", Table::Align::kLeft},
               {"makespan"},
               {"at least"},
               {"peak activations"},
               {"pairs"},
               {"parameters"},
               {"best known", Table::Align::kLeft},
               {"its makespan"}});
  Table left_out({{"left out", Table::Align::kLeft}, {"why", Table::Align::kLeft}});
  bool any_left_out = false;
  for (const SearchFamily& family : result.families) {
    if (!family.feasible) {
      left_out.add_row({label(family), family.why_not});
      any_left_out = true;
      continue;
    }
    const bool known = !family.best_known.empty();
    table.add_row({label(family), to_string(family.makespan), to_string(family.lower_bound),
                   to_string(family.peak_activations), std::to_string(family.num_pairs),
                   std::to_string(family.copies) + "x", known ? family.best_known : "none fits",
                   known ? to_string(family.best_known_makespan) : ""});
  }
  return table.to_string() + layers_text(result) + (any_left_out ? "\n" + left_out.to_string() : "");
}

/// "4 ranks x 8 micro-batches; f=1,i=1,w=1"
std::string subject(const Options& options) {
  return plural(options.request.ranks, "rank") + " x " +
         plural(options.request.micro_batches, "micro-batch", "es") + "; " + options.costs.describe();
}

std::string result_text(const Options& options, const SearchResult& result) {
  const SearchRequest& request = options.request;
  std::string text =
      subject(options) + "; " + unit_text(request, result) + "\n" + memory_line(request.costs) + "\n";
  text += bold(result.schedule.name) + ": makespan " + to_string(result.makespan);
  text += result.optimal() ? ", optimal"
                           : ", at least " + to_string(result.lower_bound) + ": at most " +
                                 percent(result.gap()) + " above the optimum";
  text += "\n" + plural(result.rounds, "round") + " of seed " + std::to_string(request.seed) + ", " +
          plural(result.num_evaluations, "order") + " timed\n\n";
  return text + families_text(result) + "\n" + result.why + "\n";
}

/// A number: whole where it is.
ordered_json number(const Fraction& fraction) {
  if (fraction.value % fraction.parts == 0) return fraction.value / fraction.parts;
  return fraction.to_double();
}

ordered_json family_json(const SearchFamily& family) {
  ordered_json json{{"placement", placement_kind_name(family.placement)},
                    {"stages_per_rank", family.stages_per_rank},
                    {"parameters", family.copies},
                    {"feasible", family.feasible}};
  if (!family.feasible) {
    json["why_not"] = family.why_not;
    return json;
  }
  json["makespan"] = number(family.makespan);
  json["lower_bound"] = number(family.lower_bound);
  json["peak_activations"] = number(family.peak_activations);
  json["pairs"] = family.num_pairs;
  if (!family.layers.empty()) json["layers"] = family.layers;
  if (!family.best_known.empty()) {
    json["best_known"] = {{"name", family.best_known}, {"makespan", number(family.best_known_makespan)}};
  }
  return json;
}

std::string result_json(const SearchRequest& request, const SearchResult& result) {
  const SearchFamily& winner = result.families[result.family];
  const Simulation run = simulate(result.schedule, result.costs);
  ordered_json families = ordered_json::array();
  for (const SearchFamily& family : result.families) families.push_back(family_json(family));
  const ordered_json json{{"name", result.schedule.name},
                          {"makespan", number(result.makespan)},
                          {"lower_bound", number(result.lower_bound)},
                          {"gap", result.gap()},
                          {"optimal", result.optimal()},
                          {"bubble", number({run.bubble, result.parts})},
                          {"bubble_ratio", run.bubble_ratio()},
                          {"peak_activations", number(winner.peak_activations)},
                          {"placement", placement_kind_name(winner.placement)},
                          {"stages_per_rank", winner.stages_per_rank},
                          {"parameters", winner.copies},
                          {"ranks", request.ranks},
                          {"micro_batches", request.micro_batches},
                          {"seed", request.seed},
                          {"rounds", result.rounds},
                          {"evaluations", result.num_evaluations},
                          {"why", result.why},
                          {"families", families}};
  return json.dump(2) + "\n";
}

ExitStatus run_pareto(const Options& options) {
  const Frontier frontier =
      with_progress("searching", [&] { return search_frontier(options.request, options.limits); });
  if (!options.output.empty()) write_frontier(frontier, options.output, subject(options));
  write_file("-", options.json
                      ? frontier_json(frontier)
                      : subject(options) + "; " + unit_text(options.request, frontier.points[0].result) +
                            "\n" + memory_line(options.request.costs) + "\n" + frontier_text(frontier));
  return kOk;
}

ExitStatus run(Options options) {
  SearchRequest& request = options.request;
  request.costs = options.costs.read();
  if (!options.memory.empty()) {
    request.costs.memory_bytes = parse_bytes(options.memory);
    request.costs.memory_of_rank.clear();
  }
  if (options.stages_per_rank)
    request.stages_per_rank =
        parse_ranges("--stages-per-rank", *options.stages_per_rank, Placement::kMaxStages);
  for (const std::string& name : options.placements) request.placements.push_back(find_placement_kind(name));
  const StopOnInterrupt interrupt;
  request.stop = interrupt.token();
  if (options.pareto) return run_pareto(options);
  const SearchResult result = with_progress("searching", [&] { return search(request); });
  if (!options.output.empty()) write_file(options.output, format(result.schedule));
  write_file("-", options.json ? result_json(request, result) : result_text(options, result));
  return kOk;
}

}  // namespace

Verb search_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  SearchRequest& request = options->request;
  CLI::App* verb = app.add_subcommand(
      "search",
      "Finds the best schedule it can for costs and memory, and proves how far from optimal it may be");
  verb->add_option("--ranks", request.ranks, "Ranks of the pipeline")
      ->required()
      ->check(whole_number(1, Placement::kMaxRanks))
      ->type_name("P");
  verb->add_option("--micro-batches", request.micro_batches, "Micro-batches of a step")
      ->required()
      ->check(whole_number(1, Placement::kMaxMicroBatches))
      ->type_name("M");
  verb->add_option(
          "--placement", options->placements,
          "Only these: one (stage a rank), loop, v, bidirectional (two copies of every stage). With one "
          "of them costs and activations are of its stages, otherwise of a 1/ranks share of the model")
      ->type_name("NAME");
  verb->add_option("--stages-per-rank", options->stages_per_rank,
                   "Stages a rank for loop, like 4, or 2,4, or 2-4 (2)")
      ->type_name("V");
  verb->add_option("--copies", request.copies, "Copies of the parameters at most, 1 or 2 (2)")
      ->check(whole_number(1, 2))
      ->type_name("N");
  options->costs.add_to(*verb);
  verb->add_option("--max-activations", request.max_activations, "Most activations on a rank")
      ->check(whole_number(0, kMaxCount))
      ->type_name("N");
  verb->add_option("--memory", options->memory, "Memory of a rank, like 80GiB (that of the cost file)")
      ->type_name("BYTES");
  verb->add_option("--seconds", request.seconds,
                   "Time to search at most (10); Ctrl-C ends it earlier, with the best so far")
      ->check(seconds())
      ->type_name("S");
  verb->add_option("--seed", request.seed, "Another seed searches elsewhere (1)")
      ->check(whole_number(0, kMaxNumber))
      ->type_name("N");
  verb->add_option("--rounds", request.rounds,
                   "Rounds at most: with enough seconds the result is the same on every machine")
      ->check(whole_number(0, kMaxCount))
      ->type_name("N");
  verb->add_flag("--json", options->json, "JSON; `gap` is makespan / lower_bound - 1");
  CLI::Option* pareto =
      verb->add_flag("--pareto", options->pareto,
                     "The best schedules for less and less memory; -o is then a folder, for "
                     "their files and a plot, frontier.svg");
  verb->add_option("--limits", options->limits, "Limits on memory that --pareto tries (8)")
      ->check(whole_number(1, 1000))
      ->needs(pareto)
      ->type_name("N");
  verb->add_option("-o,--output", options->output, "The file to write the schedule to")->type_name("FILE");
  verb->footer(
      "\nExample:\n  counterflow search --ranks 4 --micro-batches 8 --placement v --cost f=4,i=4,w=4,fb=11 "
      "-o best.csv");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
