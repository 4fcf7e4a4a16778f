#include <memory>
#include <string>

#include "counterflow/diff.h"
#include "counterflow/format.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

struct Options {
  std::string a;
  std::string b;
};

ExitStatus run(const Options& options) {
  const std::string text = with_progress("comparing", [&] {
    const Schedule a = read_file(options.a);
    const Schedule b = read_file(options.b);
    return draw(diff(a, b), a, b, options.a, options.b, line_limit());
  });
  write_file("-", text);
  return text.empty() ? kOk : kCheckFailed;
}

}  // namespace

Verb diff_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "diff", "Where two schedules differ in what their ranks do; exit status 1 where they do");
  verb->add_option("A", options->a, "A schedule; - is standard input")->required();
  verb->add_option("B", options->b, "Another")->required();
  verb->footer("\nExample:\n  counterflow diff mine.csv theirs.csv");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
