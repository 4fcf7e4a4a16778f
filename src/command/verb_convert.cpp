#include <memory>
#include <string>

#include "counterflow/format.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

struct Options {
  std::string file;
  std::string to;
  std::string output = "-";
};

std::string convert(const Options& options) {
  const Schedule schedule = read_file(options.file);
  if (options.to == "torch") return format_torch(schedule);
  if (options.to == "json") return format_json(schedule);
  return format(schedule);
}

ExitStatus run(const Options& options) {
  write_file(options.output, with_progress("converting " + options.file, [&] { return convert(options); }));
  return kOk;
}

}  // namespace

Verb convert_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("convert", "Writes a schedule in another format");
  verb->add_option("FILE", options->file, "A schedule; - is standard input")->required();
  verb->add_option("--to", options->to, "counterflow, torch (PyTorch's schedule CSV) or json")
      ->required()
      ->check(CLI::IsMember({"counterflow", "torch", "json"}))
      ->type_name("FORMAT");
  verb->add_option("-o,--output", options->output, "The file to write (standard output)")->type_name("FILE");
  verb->footer("\nExample:\n  counterflow convert zbv.csv --to torch -o zbv_torch.csv");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
