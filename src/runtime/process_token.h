// Tells processes apart.
#pragma once

#include <cstdint>

namespace counterflow::runtime {

/// A number of this process's own: two in containers of one host may have the same host name and pid.
std::uint64_t process_token();

}  // namespace counterflow::runtime
