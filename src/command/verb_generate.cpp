#include <memory>
#include <string>
#include <vector>

#include "checks.h"
#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

struct Options {
  std::string name;
  Size size;
  bool forward_only = false;
  std::vector<std::string> claims;
  std::string output = "-";
};

std::string generate_text(const Options& options) {
  Schedule schedule = generate(options.name, options.size);
  if (options.forward_only) schedule = forward_only(schedule);
  for (const std::string& claim : options.claims) {
    const UniformCost cost = parse_uniform_cost(claim);
    schedule.claims.push_back({simulate(schedule, cost).bubble, cost});
  }
  return format(schedule);
}

ExitStatus run(const Options& options) {
  write_file(options.output,
             with_progress("generating " + options.name, [&] { return generate_text(options); }));
  return kOk;
}

}  // namespace

Verb generate_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("generate", "Makes a known schedule for a number of ranks and micro-batches");
  verb->add_option("NAME", options->name, "One of those that `counterflow list` shows")->required();
  verb->add_option("--ranks", options->size.ranks, "Ranks of the pipeline")
      ->required()
      ->check(whole_number(1, Placement::kMaxRanks))
      ->type_name("P");
  verb->add_option("--micro-batches", options->size.micro_batches, "Micro-batches of a step")
      ->required()
      ->check(whole_number(1, Placement::kMaxMicroBatches))
      ->type_name("M");
  verb->add_option("--stages-per-rank", options->size.stages_per_rank,
                   "Stages a rank holds, for the schedules that leave the choice")
      ->check(whole_number(1, Placement::kMaxStages))
      ->type_name("V");
  verb->add_flag("--forward-only", options->forward_only, "Only the forwards, for evaluation");
  verb->add_option("--claim", options->claims,
                   "Writes the bubble under these costs into the file; `verify` holds the file to it")
      ->type_name("COST")
      ->allow_extra_args(false);
  verb->add_option("-o,--output", options->output, "The file to write (standard output)")->type_name("FILE");
  verb->footer("\nExample:\n  counterflow generate dualpipe --ranks 8 --micro-batches 20 -o dualpipe.csv");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
