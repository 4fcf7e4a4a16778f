#include "terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>

namespace counterflow::command {

bool wants_colour() {
  static const bool wanted = [] {
    const char* no_color = std::getenv("NO_COLOR");
    const char* term = std::getenv("TERM");
    return isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0') &&
           (term == nullptr || std::string_view(term) != "dumb");
  }();
  return wanted;
}

namespace {

/// 0 where standard output is no terminal, or one that does not say.
int screen_columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

}  // namespace

int terminal_width() {
  if (const int screen = screen_columns(); screen > 0) return screen;
  const char* columns = std::getenv("COLUMNS");
  constexpr int kMost = 100000;
  int width = 0;
  if (columns != nullptr) std::from_chars(columns, columns + std::strlen(columns), width);
  return width > 0 && width <= kMost ? width : 80;
}

std::size_t line_limit() {
  const int screen = screen_columns();
  return screen > 0 ? static_cast<std::size_t>(screen) : std::numeric_limits<std::size_t>::max();
}

std::string bold(std::string_view text) {
  return wants_colour() ? "\033[1m" + std::string(text) + "\033[0m" : std::string(text);
}

void print_error(std::string message) {
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  std::cerr << "counterflow: " << message << '\n';
}

Progress::Progress(std::string what) : what_(std::move(what)) {
  if (isatty(STDERR_FILENO) != 0) thread_ = std::thread(&Progress::show, this);
}

Progress::~Progress() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

void Progress::show() {
  using namespace std::chrono_literals;
  std::unique_lock lock(mutex_);
  const auto is_stopped = [this] { return stop_; };
  if (stopped_.wait_for(lock, 1s, is_stopped)) return;
  for (int tick = 0; !stopped_.wait_for(lock, 100ms, is_stopped); ++tick) draw(tick);
  std::cerr << "\r\033[K" << std::flush;
}

void Progress::draw(int tick) {
  constexpr int kWidth = 24;
  const int total = total_;
  const int done = done_;
  std::string bar(kWidth, ' ');
  if (total > 0) {
    bar.replace(0, static_cast<std::size_t>(kWidth * done / total), kWidth * done / total, '#');
  } else {
    bar[static_cast<std::size_t>(tick % kWidth)] = '#';
  }
  std::cerr << "\r\033[K" << what_ << " [" << bar << "]";
  if (total > 0) std::cerr << " " << done << "/" << total;
  std::cerr << std::flush;
}

}  // namespace counterflow::command
