// The verbs fold and unfold: between a V schedule and its bidirectional twin.
#include <memory>
#include <string>

#include "counterflow/fold.h"
#include "counterflow/format.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

struct Options {
  std::string file;
  std::string name;
  std::string output = "-";
};

using Transform = Schedule (*)(const Schedule&, const std::string& name);

Verb transform_verb(CLI::App& app, const char* verb_name, const char* summary, const char* example,
                    Transform transform) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(verb_name, summary);
  verb->add_option("FILE", options->file, "A schedule; - is standard input")->required();
  verb->add_option("--name", options->name, "The name of the result")->type_name("NAME");
  verb->add_option("-o,--output", options->output, "The file to write (standard output)")->type_name("FILE");
  verb->footer(example);
  return {verb, [options, transform] {
            write_file(options->output, with_progress("folding " + options->file, [&] {
                         return format(transform(read_file(options->file), options->name));
                       }));
            return kOk;
          }};
}

}  // namespace

Verb fold_verb(CLI::App& app) {
  return transform_verb(app, "fold", "Folds a bidirectional schedule into a V on half the ranks",
                        "\nExample:\n  counterflow fold dualpipe.csv -o dualpipe_v.csv", fold);
}

Verb unfold_verb(CLI::App& app) {
  return transform_verb(app, "unfold", "Unfolds a V into a bidirectional schedule on twice the ranks",
                        "\nExample:\n  counterflow unfold zbv.csv -o zbv_unfolded.csv", unfold);
}

}  // namespace counterflow::command
