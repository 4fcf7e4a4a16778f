// The verbs of the command `counterflow`, one a file. A verb adds its subcommand and options to the app and
// says what to run when it was given.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>

namespace counterflow::command {

/// What a process ends with.
enum ExitStatus : std::uint8_t {
  kOk = 0,
  kCheckFailed = 1,
  kBadInput = 2,
  kInternalError = 3,
};

struct Verb {
  CLI::App* app = nullptr;
  std::function<ExitStatus()> run;
};

Verb list_verb(CLI::App& app);
Verb generate_verb(CLI::App& app);
Verb simulate_verb(CLI::App& app);
Verb verify_verb(CLI::App& app);
Verb compare_verb(CLI::App& app);
Verb search_verb(CLI::App& app);
Verb diff_verb(CLI::App& app);
Verb lower_verb(CLI::App& app);
Verb convert_verb(CLI::App& app);
Verb fold_verb(CLI::App& app);
Verb unfold_verb(CLI::App& app);
Verb render_verb(CLI::App& app);
Verb report_verb(CLI::App& app);

}  // namespace counterflow::command
