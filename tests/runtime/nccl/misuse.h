// What the code under test has done to a fake that the real one does not forgive, and does not always report.
#pragma once

#include <string>

namespace counterflow::fake {

/// Any thread. The first one counts.
void note_misuse(const std::string& what);

/// Empty where there was none.
std::string misuse();

}  // namespace counterflow::fake
