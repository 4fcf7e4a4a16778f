// What people see beside the results: errors, and where there is a terminal colour and progress.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace counterflow::command {

/// Whether standard output is a terminal that shows colour and NO_COLOR is not set (https://no-color.org).
bool wants_colour();

/// The columns of the terminal that standard output is, or of COLUMNS where it is none, or 80.
int terminal_width();

/// Columns beyond which the terminal that standard output is would break a line; no limit where it is none.
std::size_t line_limit();

/// The text in bold where colour is wanted.
std::string bold(std::string_view text);

/// "counterflow: MESSAGE" on standard error, one line whatever the message quotes.
void print_error(std::string message);

/// A line on standard error, from a second after its construction to its destruction, that says how far a run
/// is. Nothing where standard error is no terminal. set() may be called from any thread.
class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` steps are done. Without a call the line only shows that time passes.
  void set(int done, int total) {
    done_ = done;
    total_ = total;
  }

 private:
  void show();
  void draw(int tick);

  std::string what_;
  std::atomic<int> done_{0};
  std::atomic<int> total_{0};
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::thread thread_;
};

/// What `work` returns; a Progress shows meanwhile, and is gone before the result is printed.
template <typename Work>
auto with_progress(const std::string& what, const Work& work) {
  const Progress progress(what);
  return work();
}

}  // namespace counterflow::command
