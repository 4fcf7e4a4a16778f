#include "json_tree.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "json_sax.h"

namespace counterflow {
namespace {

constexpr std::size_t kMostLevels = 8;

/// What nlohmann says is wrong, without its error number and position, cut in the middle where it is long.
std::string reason(std::string_view what) {
  constexpr std::string_view kColumn = ", column ";
  constexpr std::size_t kMostShown = 160;
  const std::size_t column = what.find(kColumn);
  const std::string_view end_of_prefix = column == std::string_view::npos ? "] " : ": ";
  const std::size_t begin = what.find(end_of_prefix, column == std::string_view::npos ? 0 : column);
  if (begin != std::string_view::npos) what.remove_prefix(begin + end_of_prefix.size());
  std::string out;
  append_escaped(out, what.substr(0, kMostShown));
  if (what.size() > kMostShown) {
    out += "...";
    append_escaped(out, what.substr(std::max(kMostShown, what.size() - kMostShown)));
  }
  return out;
}

/// Takes the parser's events and builds the tree. Keeps no more levels than kMostLevels, so that nothing that
/// walks the tree can run out of stack.
class TreeBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  TreeBuilder(const Source& source, const std::size_t& taken, std::size_t most_values)
      : source_(source), taken_(taken), most_values_(most_values) {}

  JsonValue& root() { return root_; }

  bool null() override { return scalar(Kind::kOther); }
  bool boolean(bool) override { return scalar(Kind::kOther); }
  bool number_float(double, const std::string&) override { return scalar(Kind::kOther); }
  bool binary(nlohmann::json::binary_t&) override { return scalar(Kind::kOther); }
  bool string(std::string&) override { return scalar(Kind::kString); }
  bool number_integer(std::int64_t number) override { return scalar(Kind::kInteger, number); }
  bool number_unsigned(std::uint64_t number) override {
    constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
    return number <= kMost ? scalar(Kind::kInteger, static_cast<std::int64_t>(number)) : scalar(Kind::kOther);
  }
  bool start_object(std::size_t) override { return open(Kind::kObject); }
  bool start_array(std::size_t) override { return open(Kind::kArray); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string&) override {
    const std::size_t begin = begin_of_token() + 1;
    token_end_ = taken_;
    key_ = source_.text.substr(begin, token_end_ - 1 - begin);
    return true;
  }
  bool parse_error(std::size_t taken, const std::string&, const nlohmann::json::exception& error) override {
    fail_json(source_, taken, error.what());
  }

 private:
  using Kind = JsonValue::Kind;

  /// Where the token begins that the parser has just read.
  std::size_t begin_of_token() const {
    return std::min(source_.text.find_first_not_of(" \t\r\n,:", token_end_), source_.text.size());
  }

  JsonValue& add(Kind kind) {
    const std::size_t begin = begin_of_token();
    if (++num_values_ > most_values_) {
      source_.fail(begin, "expected at most " + std::to_string(most_values_) + " values, found more");
    }
    JsonValue& value = open_.empty() ? root_ : open_.back()->items.emplace_back();
    value.kind = kind;
    value.offset = begin;
    value.key = std::exchange(key_, {});
    token_end_ = taken_;
    return value;
  }

  bool scalar(Kind kind, std::int64_t integer = 0) {
    JsonValue& value = add(kind);
    value.integer = integer;
    // To see the end of a number the parser takes one byte more.
    if (kind != Kind::kString) token_end_ = value.offset + json_text(source_, value.offset).size();
    return true;
  }

  bool open(Kind kind) {
    if (open_.size() == kMostLevels) {
      source_.fail(begin_of_token(),
                   "expected at most " + std::to_string(kMostLevels) + " levels, found more");
    }
    open_.push_back(&add(kind));
    return true;
  }

  bool close() {
    open_.pop_back();
    token_end_ = taken_;
    return true;
  }

  const Source& source_;
  const std::size_t& taken_;  // bytes that the parser has read
  std::size_t most_values_;
  std::size_t token_end_ = 0;  // of the last token
  std::size_t num_values_ = 0;
  std::string_view key_;  // of the next value
  JsonValue root_;
  std::vector<JsonValue*> open_;  // the arrays and objects around the next value
};

}  // namespace

void fail_json(const Source& source, std::size_t taken, std::string_view what) {
  // A file of another kind: what the parser says of its first byte helps nobody. (A byte order mark is
  // JSON's.)
  const std::size_t first = source.text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos &&
      std::string_view("{[\xef").find(source.text[first]) == std::string_view::npos) {
    source.fail(first, "expected JSON that begins with { or [, found " +
                           quote(Lines(source.text.substr(first)).peek()));
  }
  const std::size_t last = std::min(taken, source.text.size() + 1);
  source.fail(last > 0 ? last - 1 : 0, reason(what));
}

std::string_view json_text(const Source& source, std::size_t offset) {
  const std::string_view rest = source.text.substr(offset);
  return rest.substr(0, rest.find_first_of(" \t\r\n,:]}"));
}

JsonValue parse_json(const Source& source, std::size_t most_values) {
  std::size_t taken = 0;
  TreeBuilder builder(source, taken, most_values);
  const char* begin = source.text.data();
  const char* end = begin + source.text.size();
  nlohmann::json::sax_parse(CountingIterator(begin, &taken), CountingIterator(end, &taken), &builder);
  return std::move(builder.root());
}

}  // namespace counterflow
