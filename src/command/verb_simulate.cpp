#include <memory>
#include <string>

#include "complete_schedule.h"
#include "cost_options.h"
#include "counterflow/format.h"
#include "counterflow/simulate.h"
#include "simulation_view.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

struct Options {
  std::string file;
  CostOptions costs;
  bool critical_path = false;
  bool json = false;
};

ExitStatus run(const Options& options) {
  const CostModel costs = options.costs.read();
  const std::string text = with_progress("simulating " + options.file, [&] {
    const Schedule schedule = read_complete_schedule(options.file);
    const Simulation simulation = simulate(schedule, costs);
    return options.json
               ? simulation_json(schedule, simulation)
               : simulation_text(schedule, simulation, options.costs.describe(), options.critical_path);
  });
  write_file("-", text);
  return kOk;
}

}  // namespace

Verb simulate_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("simulate", "Runs a schedule under given costs, exactly, in integer time");
  verb->add_option("FILE", options->file, "A schedule; - is standard input")->required();
  options->costs.add_to(*verb);
  verb->add_flag("--critical-path", options->critical_path, "Lists the actions of the critical path");
  verb->add_flag("--json", options->json, "JSON, the critical path included");
  verb->footer("\nExample:\n  counterflow simulate dualpipe.csv --cost f=1,i=1,w=1,fb=2 --p2p 1");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
