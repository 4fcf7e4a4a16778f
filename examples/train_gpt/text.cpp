#include "text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <unordered_set>

#include "counterflow/error.h"

namespace train_gpt {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPieceBytes = 4096;
constexpr std::size_t kHoldOutEvery = 10;
constexpr std::size_t kFewestPieces = kHoldOutEvery;
constexpr std::size_t kMostBytes = std::size_t{64} << 20;  // more than a demonstration learns from

std::string read_whole(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) throw counterflow::Error(path + " is a folder: name files");
  std::ifstream file(path, std::ios::binary);
  std::string bytes;
  if (file) bytes.assign(std::istreambuf_iterator<char>(file), {});
  if (!file || file.bad()) throw counterflow::Error("cannot read " + path);
  return bytes;
}

/// The words of a paragraph, one blank between them.
std::string words_of(std::string_view paragraph) {
  std::string words;
  for (const char c : paragraph) {
    const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (!blank)
      words += c;
    else if (!words.empty() && words.back() != ' ')
      words += ' ';
  }
  return words;
}

/// Appends the paragraphs that are not in `seen`.
void append_new_paragraphs(std::string_view text, std::unordered_set<std::string>& seen, std::string& out) {
  while (!text.empty()) {
    const std::size_t end = text.find("\n\n");
    const std::string_view paragraph = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
    std::string words = words_of(paragraph);
    if (words.empty() || !seen.insert(std::move(words)).second) continue;
    out.append(paragraph).append("\n\n");
  }
}

std::uint64_t fnv(std::string_view text) {
  std::uint64_t value = 0xcbf29ce484222325U;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return value;
}

void append_files(const fs::path& folder, const std::string& name_inside, std::vector<std::string>& files) {
  std::error_code error;
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const fs::path path = name_inside.empty() ? entry.path() : entry.path() / name_inside;
    const bool is_link = fs::is_symlink(path, error);  // GPL is a link to GPL-3
    if (!is_link && fs::is_regular_file(path, error)) found.push_back(path.string());
  }
  std::sort(found.begin(), found.end());
  files.insert(files.end(), found.begin(), found.end());
}

}  // namespace

std::vector<std::string> default_files() {
  std::vector<std::string> files;
  append_files("/usr/share/common-licenses", "", files);
  append_files("/usr/share/doc", "copyright", files);
  if (files.empty())
    throw counterflow::Error(
        "no text to learn from: neither /usr/share/common-licenses nor /usr/share/doc/*/copyright is there; "
        "name text files on the command line");
  return files;
}

Text read_text(const std::vector<std::string>& files, std::size_t context) {
  Text text;
  std::unordered_set<std::string> seen;
  std::string all;
  for (const std::string& file : files) {
    append_new_paragraphs(read_whole(file), seen, all);
    ++text.num_files;
    if (all.size() > kMostBytes) break;
  }
  const std::size_t fewest = kFewestPieces * std::max(kPieceBytes, context + 2);
  if (all.size() < fewest)
    throw counterflow::Error("there are " + std::to_string(all.size()) + " bytes of text in " +
                             std::to_string(text.num_files) + " file(s), without repeated paragraphs; " +
                             std::to_string(fewest) + " are needed: name more files");
  for (std::size_t piece = 0; piece * kPieceBytes < all.size(); ++piece) {
    std::string& part = piece % kHoldOutEvery == kHoldOutEvery - 1 ? text.held_out : text.training;
    part.append(all, piece * kPieceBytes, kPieceBytes);
  }
  text.digest = fnv(all);
  return text;
}

double bigram_entropy(std::string_view text) {
  if (text.size() < 2) return 0;
  std::vector<double> pairs(256 * 256);
  std::array<double, 256> firsts{};
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    const auto first = static_cast<unsigned char>(text[i]);
    const auto second = static_cast<unsigned char>(text[i + 1]);
    ++pairs[first * 256U + second];
    ++firsts[first];
  }
  double sum = 0;
  for (std::size_t pair = 0; pair < pairs.size(); ++pair)
    if (pairs[pair] > 0) sum -= pairs[pair] * std::log(pairs[pair] / firsts[pair / 256]);
  return sum / static_cast<double>(text.size() - 1);
}

std::size_t sequence_start(std::uint64_t seed, std::uint64_t index, std::size_t size, std::size_t length) {
  // SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
  std::uint64_t z = seed * 0xd1342543de82ef95U + (index + 1) * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return static_cast<std::size_t>((z ^ (z >> 31)) % (size - length + 1));
}

}  // namespace train_gpt
