#include "report.h"

#include <cstdio>

namespace counterflow::runtime {

std::mutex g_mutex;
int g_checked = 0;
int g_failed = 0;

void report(bool good, int rank, const std::string& text) {
  const std::lock_guard lock(g_mutex);
  ++g_checked;
  if (!good) ++g_failed;
  if (!good || rank == 0) std::printf("%s %s\n", good ? "ok    " : "FAILED", text.c_str());
  std::fflush(stdout);
}

}  // namespace counterflow::runtime
