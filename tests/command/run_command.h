// Runs the built program `counterflow` as a shell would.
#pragma once

#include <string>
#include <vector>

namespace counterflow::testing {

struct CommandResult {
  int status = -1;  ///< exit status; -1 where it did not exit by itself
  std::string out;
  std::string err;
};

/// Runs `counterflow` with arguments and `input` as its standard input.
CommandResult run_command(const std::vector<std::string>& arguments, const std::string& input = "");

/// Runs a line of shell in which `counterflow` is the built program, in a folder.
CommandResult run_shell(const std::string& line, const std::string& folder = ".");

/// A new empty folder, removed with all it holds at the end of its life.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }

  /// The path of a file in the folder, written with the text.
  std::string write(const std::string& name, const std::string& text) const;

 private:
  std::string path_;
};

std::string read_whole(const std::string& path);

}  // namespace counterflow::testing
