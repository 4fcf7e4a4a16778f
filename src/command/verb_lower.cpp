#include <memory>
#include <string>

#include "checks.h"
#include "counterflow/format.h"
#include "counterflow/program.h"
#include "program_view.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

struct Options {
  std::string file;
  LowerOptions lower;
  std::string output = "-";
  bool json = false;
};

ExitStatus run(const Options& options) {
  const std::string text = with_progress("lowering " + options.file, [&] {
    const Schedule schedule = read_file(options.file);
    const Program program = lower(schedule, options.lower);
    return options.json ? program_json(schedule, program) : program_text(schedule, program);
  });
  write_file(options.output, text);
  return kOk;
}

}  // namespace

Verb lower_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "lower", "The program each rank runs: its actions with transfers, groups and communicators");
  verb->add_option("FILE", options->file, "A schedule; - is standard input")->required();
  verb->add_option("--receive-buffers", options->lower.receive_buffers,
                   "Receive buffers of every channel (as many as it needs)")
      ->check(whole_number(1, kMaxCount))
      ->type_name("N");
  verb->add_option("-o,--output", options->output, "The file to write (standard output)")->type_name("FILE");
  verb->add_flag("--json", options->json, "JSON");
  verb->footer("\nExample:\n  counterflow lower dualpipe.csv -o lowered.csv");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
