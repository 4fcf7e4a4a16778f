#include "run_command.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace counterflow::testing {
namespace {

std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? "'\\''" : std::string(1, c);
  return result + "'";
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "counterflow-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, const std::string& text) const {
  const std::string path = path_ + "/" + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::string read_whole(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

CommandResult run_shell(const std::string& line, const std::string& folder) {
  const TemporaryFolder files;
  const std::string script = files.write("script", "cd " + quoted(folder) + "\ncounterflow() { " +
                                                       quoted(COUNTERFLOW_COMMAND) + " \"$@\"; }\n" + line);
  const std::string command = "sh " + quoted(script) + " </dev/null >" + quoted(files.path() + "/out") +
                              " 2>" + quoted(files.path() + "/err");
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_whole(files.path() + "/out"),
          read_whole(files.path() + "/err")};
}

CommandResult run_command(const std::vector<std::string>& arguments, const std::string& input) {
  const TemporaryFolder files;
  std::string line = "counterflow";
  for (const std::string& argument : arguments) line += " " + quoted(argument);
  return run_shell(line + " <" + quoted(files.write("in", input)));
}

}  // namespace counterflow::testing
