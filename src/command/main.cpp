// The command `counterflow`: each verb is a library call that a C++ program can make too.
#include <algorithm>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/format.h"
#include "help.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

constexpr const char* kHelpFooter =
    "\nExamples:\n"
    "  counterflow generate dualpipe --ranks 8 --micro-batches 20 -o dualpipe.csv\n"
    "  counterflow simulate dualpipe.csv --cost f=1,i=1,w=1,fb=2\n"
    "  counterflow render dualpipe.csv -o dualpipe.svg\n"
    "  counterflow verify dualpipe.csv --max-bubble-ratio 0.1\n"
    "  counterflow compare --ranks 8 --micro-batches 32\n"
    "  counterflow search --ranks 8 --micro-batches 32 --cost f=4,i=4,w=4,fb=11 -o best.csv\n"
    "\nFILE may be - for standard input. Exit status: 0 all well, 1 a check failed, 2 bad input or usage,\n"
    "3 an internal error.";

/// Says that no verb was given, or none that there is.
[[noreturn]] void refuse(const CLI::App& app) {
  std::string names;
  for (const CLI::App* verb : app.get_subcommands({}))
    names += (names.empty() ? "" : ", ") + verb->get_name();
  const std::vector<std::string> rest = app.remaining();
  throw InvalidConfig("expected a verb (" + names + "), found " +
                      (rest.empty() ? "none" : "\"" + rest.front().substr(0, 80) + "\"") +
                      "; --help shows what each does");
}

/// Standard input can be read but once: refuses a verb to which it is several of the files that it reads.
void check_standard_input(const CLI::App& verb) {
  std::size_t count = 0;
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_name().ends_with("output")) continue;
    const std::vector<std::string> values = option->results();
    count += std::count(values.begin(), values.end(), "-");
  }
  if (count > 1) {
    throw InvalidConfig(verb.get_name() + ": expected at most one file to be standard input, found " +
                        std::to_string(count));
  }
}

/// An empty name is what a script passes whose variable is not set: refuses it, for the option would count as
/// left out.
void check_file_names(const CLI::App& verb) {
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_type_name() != "FILE" && !option->get_positional()) continue;
    const std::vector<std::string> values = option->results();
    if (std::find(values.begin(), values.end(), "") == values.end()) continue;
    throw InvalidConfig(option->get_name() + ": expected a name, found \"\"; --help shows what is expected");
  }
}

/// CLI11 takes `-o=x.csv` as a file `=x.csv`, which nobody means.
void check_short_options(const CLI::App& verb) {
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_snames().empty() || option->get_lnames().empty()) continue;
    for (const std::string& value : option->results()) {
      if (!value.starts_with('=')) continue;
      const std::string meant = value.size() > 1 ? value.substr(1) : option->get_type_name();
      throw InvalidConfig("-" + option->get_snames()[0] + ": expected no \"=\" before the value, found \"" +
                          value + "\"; write -" + option->get_snames()[0] + " " + meant + " or --" +
                          option->get_lnames()[0] + "=" + meant);
    }
  }
}

/// Runs the verb that the arguments name.
ExitStatus run(int argc, char** argv) {
  CLI::App app("Pipeline schedules: generated, verified, simulated and compared exactly.", "counterflow");
  app.set_version_flag("--version", "counterflow " COUNTERFLOW_VERSION);
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(kHelpFooter);
  const std::vector<Verb> verbs = {
      list_verb(app),   generate_verb(app), simulate_verb(app), verify_verb(app),  compare_verb(app),
      search_verb(app), diff_verb(app),     lower_verb(app),    convert_verb(app), fold_verb(app),
      unfold_verb(app), render_verb(app),   report_verb(app),
  };
  app.allow_extras();  // of the app alone, to name a verb that there is not
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    std::ostringstream text;  // of --help and --version
    app.exit(help, text);
    write_file("-", text.str());
    return kOk;
  }
  for (const Verb& verb : verbs) {
    if (!verb.app->parsed()) continue;
    check_file_names(*verb.app);
    check_short_options(*verb.app);
    check_standard_input(*verb.app);
    return verb.run();
  }
  refuse(app);
}

ExitStatus fail(ExitStatus status, const std::string& message) {
  print_error(message);
  return status;
}

}  // namespace
}  // namespace counterflow::command

int main(int argc, char** argv) {
  using namespace counterflow::command;
  try {
    return run(argc, argv);
  } catch (const CLI::Error& error) {
    return fail(kBadInput, std::string(error.what()) + "; --help shows what is expected");
  } catch (const counterflow::Error& error) {
    return fail(kBadInput, error.what());
  } catch (const std::bad_alloc&) {
    return fail(kInternalError, "out of memory");
  } catch (const std::exception& error) {
    return fail(kInternalError, std::string("internal error: ") + error.what());
  }
}
