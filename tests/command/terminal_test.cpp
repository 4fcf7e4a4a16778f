// What the command shows on a terminal alone: colour and progress.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <string>
#include <thread>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

/// The two ends of a terminal of its own.
class Terminal {
 public:
  explicit Terminal(unsigned short columns = 0) : master_(posix_openpt(O_RDWR | O_NOCTTY)) {
    if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0) return;
    slave_ = open(ptsname(master_), O_RDWR | O_NOCTTY);
    const winsize size{.ws_row = 0, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ioctl(slave_, TIOCSWINSZ, &size);
  }
  ~Terminal() {
    close(master_);
    hang_up();
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  int slave() const { return slave_; }

  /// Closes this process's copy of the program's end, so that read_all() sees the program's last byte.
  void hang_up() {
    if (slave_ >= 0) close(slave_);
    slave_ = -1;
  }

  std::string read_all() const {
    std::string text;
    char buffer[4096];
    for (ssize_t count = 0; (count = read(master_, buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<std::size_t>(count));
    return text;
  }

 private:
  int master_;
  int slave_ = -1;
};

/// Starts the program with a terminal in place of standard output or error, and standard input as given.
pid_t start(const std::vector<std::string>& arguments, int terminal, int replaced, int input, bool no_color) {
  const pid_t child = fork();
  if (child != 0) return child;
  dup2(input, STDIN_FILENO);
  const int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, replaced == STDOUT_FILENO ? STDERR_FILENO : STDOUT_FILENO);
  dup2(terminal, replaced);
  setenv("TERM", "xterm", 1);
  unsetenv("NO_COLOR");
  if (no_color) setenv("NO_COLOR", "1", 1);
  std::vector<char*> argv = {const_cast<char*>("counterflow")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(COUNTERFLOW_COMMAND, argv.data());
  _exit(127);
}

std::string run_on_terminal(const std::vector<std::string>& arguments, bool no_color,
                            unsigned short columns = 0) {
  Terminal terminal(columns);
  const int input = open("/dev/null", O_RDONLY);
  const pid_t child = start(arguments, terminal.slave(), STDOUT_FILENO, input, no_color);
  close(input);
  terminal.hang_up();
  std::string text = terminal.read_all();
  int status = 0;
  waitpid(child, &status, 0);
  return text;
}

class TerminalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (Terminal().slave() < 0) GTEST_SKIP() << "there are no pseudo-terminals here (is /dev/pts mounted?)";
  }
};

TEST_F(TerminalTest, ColourIsForTerminalsAlone) {
  EXPECT_NE(run_on_terminal({"list"}, false).find("\033[1mdualpipe\033[0m"), std::string::npos);
  EXPECT_EQ(run_command({"list"}).out.find('\033'), std::string::npos);
}

TEST_F(TerminalTest, NoColorIsRespected) {
  const std::string text = run_on_terminal({"list"}, true);
  EXPECT_NE(text.find("dualpipe"), std::string::npos);
  EXPECT_EQ(text.find('\033'), std::string::npos);
}

TEST_F(TerminalTest, AVerdictIsColoured) {
  const TemporaryFolder folder;
  const std::string good = folder.write("good.csv", format(generate("1f1b", {2, 4})));
  const std::string broken = folder.write("broken.csv", "0F0\n");
  const std::string text = run_on_terminal({"verify", good, broken}, false);
  EXPECT_NE(text.find("good.csv: \033[32mok\033[0m: "), std::string::npos) << text;
  EXPECT_NE(text.find("broken.csv: \033[31m1 error\033[0m: "), std::string::npos) << text;
}

/// What a terminal of so many columns shows, its line ends as files have them.
std::string shown_on(unsigned short columns, const std::vector<std::string>& arguments) {
  std::string text = run_on_terminal(arguments, true, columns);
  std::erase(text, '\r');
  return text;
}

TEST_F(TerminalTest, ATableContinuesBelowWhereTheTerminalIsNarrow) {
  const std::vector<std::string> compare = {"compare", "--ranks",           "4", "--micro-batches",
                                            "8",       "--max-activations", "4"};
  const std::string whole = run_command(compare).out;
  EXPECT_EQ(shown_on(0, compare), whole);
  EXPECT_EQ(shown_on(200, compare), whole);

  const TemporaryFolder folder;
  const std::string file = folder.write("a.csv", format(generate("1f1b", {2, 2})));
  const std::string text = shown_on(30, {"simulate", file});
  EXPECT_EQ(text.substr(text.find("\n\n"), text.find("makespan") - text.find("\n\n")), R"(

  rank  busy  idle  span idle
     0     6     3          3
     1     6     3          0

  rank  peak activations
     0                 2
     1                 1

)");
}

// The width that a table takes is the least at which it stays whole.
TEST_F(TerminalTest, ATableThatJustFitsStaysWhole) {
  const TemporaryFolder folder;
  const std::string file = folder.write("a.csv", format(generate("1f1b", {2, 2})));
  const std::string title = "  rank  busy  idle  span idle  peak activations";
  const auto width = static_cast<unsigned short>(title.size());
  EXPECT_NE(shown_on(width, {"simulate", file}).find(title + "\n"), std::string::npos);
  EXPECT_EQ(shown_on(width - 1, {"simulate", file}).find(title + "\n"), std::string::npos);
}

// No column is cut: one that is wider than the terminal stands beside the first alone.
TEST_F(TerminalTest, ATableKeepsEveryCellHoweverNarrowTheTerminal) {
  const std::vector<std::string> compare = {"compare", "--ranks", "3", "--micro-batches", "2"};
  const std::string narrow = shown_on(1, compare);
  std::istringstream words(run_command(compare).out);
  for (std::string word; words >> word;) EXPECT_NE(narrow.find(word), std::string::npos) << word;
}

TEST_F(TerminalTest, VerifyAndDiffShowTheStepsThatFit) {
  const TemporaryFolder folder;
  Schedule schedule = generate("dualpipe", {4, 8});
  const std::string good = folder.write("a", format(schedule));
  schedule.actions[1][7] = schedule.actions[1][8];
  const std::string bad = folder.write("b", format(schedule));
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"verify", bad}, std::vector<std::string>{"diff", good, bad}}) {
    const auto widest = [&](unsigned short columns) {
      std::istringstream lines(shown_on(columns, arguments));
      std::ptrdiff_t found = 0;
      const auto opens = [](char byte) { return (byte & 0xC0) != 0x80; };  // a character of UTF-8
      for (std::string line; std::getline(lines, line);)
        if (line.starts_with("rank 1") || line.starts_with("  " + good))
          found = std::max(found, std::count_if(line.begin(), line.end(), opens));
      return found;
    };
    EXPECT_LE(widest(90), 90);
    EXPECT_GT(widest(90), 60);
    EXPECT_GT(widest(0), 90);
  }
}

/// What standard error shows while `simulate -` gets its input only after a time.
std::string progress_of_a_run_that_waits(std::chrono::milliseconds time) {
  Terminal terminal;
  int input[2];
  if (pipe2(input, O_CLOEXEC) != 0) return "no pipe";
  const pid_t child = start({"simulate", "-"}, terminal.slave(), STDERR_FILENO, input[0], false);
  close(input[0]);
  terminal.hang_up();
  std::thread writer([&] {
    std::this_thread::sleep_for(time);
    const std::string schedule = format(generate("1f1b", {2, 4}));
    EXPECT_EQ(write(input[1], schedule.data(), schedule.size()), static_cast<ssize_t>(schedule.size()));
    close(input[1]);
  });
  std::string text = terminal.read_all();
  writer.join();
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  return text;
}

TEST_F(TerminalTest, ARunOfMoreThanASecondShowsProgressAndCleansUp) {
  const std::string text = progress_of_a_run_that_waits(std::chrono::milliseconds(1500));
  EXPECT_NE(text.find("simulating - ["), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\r\033[K")) << text;
}

TEST_F(TerminalTest, AShortRunShowsNone) {
  EXPECT_EQ(progress_of_a_run_that_waits(std::chrono::milliseconds(0)), "");
}

}  // namespace
}  // namespace counterflow::testing
