// README's console blocks show what the command really prints.
#include <gtest/gtest.h>

#include <sstream>

#include "run_command.h"

namespace counterflow::testing {
namespace {

struct Shown {
  std::string command;
  std::string output;
};

/// The commands in README's ```console blocks that run `counterflow`, with the output shown below each.
std::vector<Shown> shown_commands() {
  std::vector<Shown> shown;
  bool in_block = false;
  std::istringstream lines(read_whole(COUNTERFLOW_README));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("```")) {
      in_block = line == "```console";
    } else if (in_block && line.starts_with("$ ")) {
      shown.push_back({line.substr(2), ""});
    } else if (in_block && !shown.empty()) {
      shown.back().output += line + "\n";
    }
  }
  std::erase_if(shown,
                [](const Shown& one) { return one.command.find("counterflow ") == std::string::npos; });
  return shown;
}

TEST(ReadmeTest, ShowsWhatTheCommandPrints) {
  const TemporaryFolder folder;
  const std::vector<Shown> shown = shown_commands();
  EXPECT_GE(shown.size(), 5);
  for (const Shown& one : shown) {
    const CommandResult result = run_shell(one.command, folder.path());
    EXPECT_EQ(result.out, one.output) << one.command;
    EXPECT_EQ(result.err, "") << one.command;
    EXPECT_LE(result.status, 1) << one.command;
  }
}

}  // namespace
}  // namespace counterflow::testing
