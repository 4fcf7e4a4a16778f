// The verb report: what a real run did.
#include <memory>
#include <string>

#include "complete_schedule.h"
#include "cost_options.h"
#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/idle.h"
#include "counterflow/profile_trace.h"
#include "counterflow/recording.h"
#include "plan.h"
#include "report_view.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

struct Options {
  std::string file;
  std::string schedule;
  CostOptions costs;
  std::string cost_output;
  bool json = false;
};

std::string report_run(const std::string& text, const std::string& name, const Options& options) {
  if (!options.cost_output.empty())
    throw InvalidConfig("--cost-output: expected a profiler's trace, found a recording");
  if (options.schedule.empty())
    throw InvalidConfig("--schedule: expected the schedule that the recorded run followed, found none");
  const Schedule schedule = read_complete_schedule(options.schedule);
  RunReport report;
  report.run = parse_recording(text, name);
  report.idle = split_idle(report.run, schedule);
  report.plan = plan_of(report.run, schedule, options.costs);
  report.costs = options.costs.given() ? options.costs.describe() : "the run's mean times";
  return options.json ? run_report_json(report) : run_report_text(report);
}

std::string report_profile(const std::string& text, const std::string& name, const Options& options) {
  if (!options.schedule.empty() || options.costs.given())
    throw InvalidConfig(
        "--schedule and costs: expected a recording, JSON that begins with counterflow_recording, found "
        "none; "
        "leave them out for a profiler's trace");
  const ProfileTrace trace = parse_profile_trace(text, name);
  if (!options.cost_output.empty()) write_file(options.cost_output, format_cost_model(costs_of(trace), "us"));
  return options.json ? profile_report_json(trace) : profile_report_text(trace, name);
}

ExitStatus run(const Options& options) {
  const std::string report = with_progress("reading " + options.file, [&] {
    const std::string text = read_run_text(options.file);
    const std::string name = options.file == "-" ? "<stdin>" : options.file;
    return is_recording(text) ? report_run(text, name, options) : report_profile(text, name, options);
  });
  write_file("-", report);
  return kOk;
}

}  // namespace

Verb report_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "report", "Says where the time of a real run went: a recording, or a trace of PyTorch Profiler's");
  verb->add_option("RUN", options->file,
                   "A recording (schedules/README.md) or a Chrome trace; - is standard input")
      ->required();
  verb->add_option("--schedule", options->schedule, "The schedule that the recorded run followed")
      ->type_name("FILE");
  options->costs.add_to(*verb);
  verb->add_option("--cost-output", options->cost_output,
                   "Writes a cost file with the forward's and backward's times in the trace")
      ->type_name("FILE");
  verb->add_flag("--json", options->json, "JSON");
  verb->footer(
      "\nCosts are the plan's, in microseconds; without any it is under the run's own mean times.\n"
      "\nExample:\n  counterflow report run.json --schedule dualpipe.csv --cost-file model.json");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
