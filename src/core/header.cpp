#include "header.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "counterflow/error.h"
#include "limits.h"
#include "row_reader.h"

namespace counterflow {
namespace {

std::string quoted_key(std::string_view key) {
  return "\"# " + std::string(key) + ": ...\"";
}

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string unescape(const Source& source, std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const std::string_view escape = text.substr(i, 4);
    const int high = escape.size() == 4 && escape[1] == 'x' ? hex_digit(escape[2]) : -1;
    const int low = high >= 0 ? hex_digit(escape[3]) : -1;
    if (low < 0) {
      source.fail(source.offset_of(escape),
                  "expected \\x and two hexadecimal digits after a backslash, found " + quote(escape));
    }
    out += static_cast<char>(high * 16 + low);
    i += 3;
  }
  return out;
}

void HeaderReader::add(std::string_view line) {
  const std::string_view body = line.substr(1);
  const std::size_t colon = body.find(':');
  const std::string_view key = trim(body.substr(0, colon));
  if (colon == std::string_view::npos) {
    source_.fail(source_.offset_of(line),
                 "expected \"# key: value\", or ## before a comment, found " + quote(line));
  }
  const std::string_view value = trim(body.substr(colon + 1));
  if (key == "name") return set(name_, key, value);
  if (key == "ranks") return set(ranks_, key, value);
  if (key == "stages") return set(stages_, key, value);
  if (key == "micro-batches") return set(micro_batches_, key, value);
  if (key == "passes") return set(passes_, key, value);
  if (key == "direction") return directions_.push_back(value);
  if (key == "claim") return claims_.push_back(value);
  source_.fail(
      source_.offset_of(key),
      "expected a key out of name, ranks, stages, micro-batches, direction, passes and claim (or ## before "
      "a comment), found " +
          quote(key));
}

void HeaderReader::set(Value& value, std::string_view key, std::string_view text) {
  if (value) {
    source_.fail(source_.offset_of(key), "expected " + quoted_key(key) + " once, found it again after " +
                                             source_.place(source_.offset_of(*value)));
  }
  value = text;
}

Schedule HeaderReader::finish(std::size_t end) const {
  const std::int32_t ranks = count(ranks_, "ranks", Placement::kMaxRanks, end);
  const std::int32_t stages = count(stages_, "stages", Placement::kMaxStages, end);
  const std::int32_t micro_batches = count(micro_batches_, "micro-batches", Placement::kMaxMicroBatches, end);
  const auto num_directions = static_cast<std::int32_t>(directions_.size());
  if (num_directions > ranks) {
    source_.fail(source_.offset_of(directions_[ranks]), "expected at most a direction for each of " +
                                                            std::to_string(ranks) + " ranks, found another");
  }
  // Before the directions are spelt out, and with as many actions as could follow.
  const auto most_actions = static_cast<std::int64_t>(source_.text.size() / kFewestActionBytes) + 1;
  const std::string too_large = excess(stages, micro_batches, num_directions, ranks, most_actions,
                                       static_cast<std::int64_t>(claims_.size()));
  if (!too_large.empty()) refuse_size(too_large);

  std::vector<Direction> directions;
  std::int32_t next_micro_batch = 0;
  for (const std::string_view text : directions_) {
    directions.push_back(direction(text, ranks, stages, next_micro_batch, micro_batches));
    next_micro_batch += directions.back().num_micro_batches;
  }
  if (next_micro_batch < micro_batches) {
    source_.fail(end, "expected " + quoted_key("direction") + " for micro-batches from " +
                          std::to_string(next_micro_batch) + " to " + std::to_string(micro_batches - 1) +
                          ", found the end of the header");
  }

  Schedule schedule;
  if (name_) schedule.name = unescape(source_, *name_);
  schedule.placement = Placement(ranks, std::move(directions));
  schedule.passes = passes();
  for (const std::string_view text : claims_) schedule.claims.push_back(claim(text));
  return schedule;
}

std::int32_t HeaderReader::count(const Value& value, const char* key, std::int32_t most,
                                 std::size_t end) const {
  if (!value) {
    source_.fail(end, "expected " + quoted_key(key) + " in the header, found the end of the header");
  }
  Cursor cursor(source_, *value);
  const auto count = cursor.number(key, 1, most);
  if (!cursor.at_end()) cursor.expected("the end of the line");
  return count;
}

void HeaderReader::refuse_size(const std::string& excess) const {
  source_.fail(source_.offset_of(*micro_batches_), excess);
}

Direction HeaderReader::direction(std::string_view text, std::int32_t ranks, std::int32_t stages,
                                  std::int32_t first_micro_batch, std::int32_t micro_batches) const {
  Cursor cursor(source_, text);
  if (first_micro_batch == micro_batches) {
    source_.fail(cursor.offset(), "expected no further direction: micro-batches 0 to " +
                                      std::to_string(micro_batches - 1) + " have theirs");
  }
  if (!cursor.accept("micro-batches ")) cursor.expected("\"micro-batches A-B on ranks ...\"");
  const auto first = cursor.number("the direction's first micro-batch", first_micro_batch, first_micro_batch);
  auto last = first;
  if (cursor.accept('-')) last = cursor.number("the direction's last micro-batch", first, micro_batches - 1);
  if (!cursor.accept(" on ranks ")) cursor.expected("\" on ranks ...\"");
  return {first, last - first + 1, rank_list(cursor, ranks, stages)};
}

std::vector<std::int32_t> HeaderReader::rank_list(Cursor& cursor, std::int32_t ranks,
                                                  std::int32_t stages) const {
  std::vector<std::int32_t> list;
  while (true) {
    const std::size_t begin = cursor.offset();
    const auto first = cursor.number("a rank", 0, ranks - 1);
    const auto last = cursor.accept('-') ? cursor.number("a rank", 0, ranks - 1) : first;
    const auto length = static_cast<std::size_t>(std::abs(last - first)) + 1;
    if (list.size() + length > static_cast<std::size_t>(stages)) {
      source_.fail(begin, "expected a rank for each of " + std::to_string(stages) + " stages, found " +
                              std::to_string(list.size() + length) + " ranks up to here");
    }
    const std::int32_t step = first <= last ? 1 : -1;
    for (std::int32_t rank = first; rank != last; rank += step) list.push_back(rank);
    list.push_back(last);
    cursor.skip_blanks();
    if (cursor.at_end()) break;
  }
  if (list.size() < static_cast<std::size_t>(stages)) {
    source_.fail(cursor.offset(), "expected a rank for each of " + std::to_string(stages) +
                                      " stages, found " + std::to_string(list.size()));
  }
  return list;
}

Passes HeaderReader::passes() const {
  if (!passes_ || *passes_ == "training") return Passes::kTraining;
  if (*passes_ == "forward") return Passes::kForward;
  Cursor(source_, *passes_).expected("training or forward");
}

Claim HeaderReader::claim(std::string_view text) const {
  Cursor cursor(source_, text);
  if (!cursor.accept("bubble ")) cursor.expected("\"bubble N at f=1,i=1,w=1\"");
  const Time bubble = cursor.number<Time>("a bubble");
  if (!cursor.accept(" at ")) cursor.expected("\" at f=1,i=1,w=1\"");
  try {
    return {bubble, parse_uniform_cost(cursor.rest())};
  } catch (const InvalidConfig& error) {
    std::string message;
    append_escaped(message, error.what());
    source_.fail(cursor.offset(), message);
  }
}

}  // namespace counterflow
