// The command `counterflow`: each verb is a library call that a C++ program can make too.
#include <algorithm>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
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

/// A verb comes first, or --help or --version. (CLI11 lets a verb stand anywhere behind options and names
/// that it knows nothing of.)
void check_first_argument(const CLI::App& app, int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (app.get_option_no_throw(first) != nullptr) return;
  std::string names;
  for (const CLI::App* verb : app.get_subcommands({})) {
    if (verb->get_name() == first) return;
    names += (names.empty() ? "" : ", ") + verb->get_name();
  }
  throw InvalidConfig("expected a verb (" + names + "), found " +
                      (argc > 1 ? "\"" + first.substr(0, 80) + "\"" : "none") +
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
    const std::string short_name = "-" + option->get_snames()[0];
    const std::string long_name = "--" + option->get_lnames()[0];
    for (const std::string& value : option->results()) {
      if (!value.starts_with('=')) continue;
      const std::string meant = value.size() > 1 ? value.substr(1) : option->get_type_name();
      std::ostringstream message;
      message << short_name << ": expected no \"=\" before the value, found \"" << value << "\"; write "
              << short_name << " " << meant << " or " << long_name << "=" << meant;
      throw InvalidConfig(message.str());
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
  app.require_subcommand(1);  // so that a file may be called as a verb is
  check_first_argument(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    std::ostringstream text;  // of --help and --version
    app.exit(help, text);
    write_file("-", text.str());
    return kOk;
  }
  const auto verb =
      std::find_if(verbs.begin(), verbs.end(), [](const Verb& one) { return one.app->parsed(); });
  if (verb == verbs.end()) throw std::logic_error("no verb was parsed");
  check_file_names(*verb->app);
  check_standard_input(*verb->app);
  check_short_options(*verb->app);
  return verb->run();
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
