// What the checks on GPUs have come to.
#pragma once

#include <mutex>
#include <string>

namespace counterflow::runtime {

extern std::mutex g_mutex;  ///< of the following, and of printing
extern int g_checked;
extern int g_failed;

/// Counts and prints, of what went well only rank 0's.
void report(bool good, int rank, const std::string& text);

}  // namespace counterflow::runtime
