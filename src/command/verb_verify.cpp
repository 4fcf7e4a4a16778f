#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checks.h"
#include "cost_options.h"
#include "counterflow/format.h"
#include "counterflow/report.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

struct Options {
  std::vector<std::string> files;
  CostOptions costs;
  Limits limits;
  VerifyOptions verify;
  std::string format = "text";
};

std::string render(const std::vector<FileReport>& reports, const std::string& format) {
  if (format == "json") return report_json(reports);
  if (format == "junit") return report_junit(reports);
  if (format == "github") return report_github(reports);
  return report_text(reports, wants_colour(), line_limit());
}

ExitStatus run(const Options& options) {
  const CostModel costs = options.costs.read();
  std::vector<FileReport> reports;
  {
    Progress progress("verifying");
    for (const std::string& file : options.files) {
      if (options.files.size() > 1)
        progress.set(static_cast<int>(reports.size()), static_cast<int>(options.files.size()));
      reports.push_back(judge_file(file, options.verify, costs, options.limits));
    }
  }
  write_file("-", render(reports, options.format));
  ExitStatus status = kOk;
  for (const FileReport& one : reports) {
    if (one.error) {
      print_error(*one.error);
      status = kBadInput;
    } else if (!one.ok() && status == kOk) {
      status = kCheckFailed;
    }
  }
  return status;
}

}  // namespace

Verb verify_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "verify",
      "Judges schedules: that they do all work, never deadlock, and keep what they claim and may take");
  verb->add_option("FILE", options->files, "Schedules, lowered or not; - is standard input")->required();
  options->costs.add_to(*verb);
  verb->add_option("--max-bubble-ratio", options->limits.max_bubble_ratio,
                   "Most idle time allowed, over all ranks, as a share of their time (0 to 1)")
      ->check(ratio())
      ->type_name("X")
      ->group("Limits");
  verb->add_option("--max-bubble", options->limits.max_bubble, "Most idle time allowed on a rank")
      ->check(whole_number(0, kMaxNumber))
      ->type_name("TIME")
      ->group("Limits");
  verb->add_option("--max-makespan", options->limits.max_makespan, "Longest time allowed")
      ->check(whole_number(0, kMaxNumber))
      ->type_name("TIME")
      ->group("Limits");
  verb->add_option("--max-activations", options->verify.max_activations,
                   "Most stage activations allowed on a rank at once")
      ->check(whole_number(0, kMaxCount))
      ->type_name("N")
      ->group("Limits");
  verb->add_option("--receive-buffers", options->verify.receive_buffers,
                   "Receive buffers of every channel (as many as the schedule needs)")
      ->check(whole_number(1, kMaxCount))
      ->type_name("N")
      ->group("Limits");
  verb->add_option("--format", options->format, "text, json, junit or github")
      ->check(CLI::IsMember({"text", "json", "junit", "github"}))
      ->type_name("FORMAT");
  verb->footer(
      "\nExample:\n  counterflow verify dualpipe.csv --cost f=1,i=1,w=1,fb=2 --max-bubble-ratio 0.1");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
