// What options accept, with errors that say what was expected and what was found.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

namespace counterflow::command {

/// Numbers beyond which nothing is meant seriously: of times and of counts.
inline constexpr std::int64_t kMaxNumber = 1'000'000'000'000;
inline constexpr std::int64_t kMaxCount = 1'000'000'000;

/// A whole number in decimal digits. (CLI11 alone reads 010 as 8 and shows its limits as floating point.)
CLI::Validator whole_number(std::int64_t least, std::int64_t most);

/// A number of seconds from 0 to kMaxCount, with a fraction or not.
CLI::Validator seconds();

/// A number from 0 to 1. (CLI::Range lets NaN pass, which nothing would ever exceed.)
CLI::Validator ratio();

}  // namespace counterflow::command
