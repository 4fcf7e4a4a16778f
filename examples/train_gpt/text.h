// The text to learn: bytes of real files, a part of them held out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace train_gpt {

struct Text {
  std::string training;
  std::string held_out;
  std::size_t num_files = 0;
  std::uint64_t digest = 0;  ///< equal for equal text
};

/// Files that every Debian machine carries: the licences, and what packages say of theirs. In the order of
/// their names, each file once. Throws counterflow::Error where there are none.
std::vector<std::string> default_files();

/// Reads files in the given order, drops paragraphs that have come before (licences quote one another), and
/// holds out every tenth piece of some kilobytes. Throws counterflow::Error where a file cannot be read or
/// where there is too little text.
Text read_text(const std::vector<std::string>& files, std::size_t context);

/// The entropy of a byte given the byte before, in nats: what the best predictor by pairs reaches on the text
/// that it was counted on.
double bigram_entropy(std::string_view text);

/// Where sequence number `index` of a run begins in a text of `size` bytes, so that `length` bytes follow.
/// Depends on nothing else: a run can go on at any place, and with any batch size.
std::size_t sequence_start(std::uint64_t seed, std::uint64_t index, std::size_t size, std::size_t length);

}  // namespace train_gpt
