#include "misuse.h"

#include <mutex>

namespace counterflow::fake {
namespace {

std::mutex g_mutex;

/// Lives as long as the process does, whose threads may be at work until the very end.
std::string& first() {
  static std::string& one = *new std::string;
  return one;
}

}  // namespace

void note_misuse(const std::string& what) {
  const std::lock_guard lock(g_mutex);
  if (first().empty()) first() = what;
}

std::string misuse() {
  const std::lock_guard lock(g_mutex);
  return first();
}

}  // namespace counterflow::fake
