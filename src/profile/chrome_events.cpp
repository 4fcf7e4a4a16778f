#include "chrome_events.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "../core/json_sax.h"

namespace counterflow {
namespace {

using Kind = ChromeEvent::Kind;

constexpr Time kMostMicroseconds =
    4'000'000'000'000'000;  // a hundred years after 1970, far from the limits of Time

struct Category {
  std::string_view text;
  Kind kind;
};

// https://github.com/pytorch/kineto/blob/main/libkineto/src/ActivityType.cpp
constexpr std::array kCategories = {
    Category{"kernel", Kind::kKernel},      Category{"gpu_memcpy", Kind::kKernel},
    Category{"gpu_memset", Kind::kKernel},  Category{"cuda_runtime", Kind::kLaunch},
    Category{"cuda_driver", Kind::kLaunch}, Category{"user_annotation", Kind::kRange},
    Category{"cpu_op", Kind::kOperator},
};

constexpr Time kNanoseconds = 1000;  // of a microsecond

/// A number of microseconds as nanoseconds, without losing digits where it has a plain form.
std::optional<Time> to_nanoseconds(double microseconds, std::string_view text) {
  if (!(std::abs(microseconds) <= static_cast<double>(kMostMicroseconds))) return std::nullopt;
  const std::size_t point = text.find('.');
  if (point == std::string_view::npos || text.find_first_of("eE") != std::string_view::npos)
    return std::llround(microseconds * kNanoseconds);
  Time whole = 0;
  const std::string_view digits = text.substr(0, point);
  std::from_chars(digits.data(), digits.data() + digits.size(), whole);
  Time part = 0;
  Time place = kNanoseconds / 10;
  for (std::size_t i = point + 1; i < text.size() && place > 0; ++i, place /= 10)
    part += (text[i] - '0') * place;
  return whole * kNanoseconds + (text.starts_with('-') ? -part : part);
}

/// Takes the parser's events. An object two levels down in the list of events, or in the list that the whole
/// file is, is an event; its "args" are a level further.
class EventReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  EventReader(const Source& source, const std::size_t& taken) : source_(source), taken_(taken) {}

  ChromeEvents finish() {
    if (!has_list_) source_.fail(0, "expected a Chrome trace, an object with traceEvents, found other JSON");
    return std::move(found_);
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool binary(nlohmann::json::binary_t&) override { return true; }
  bool number_integer(std::int64_t number) override { return integer(number); }
  bool number_unsigned(std::uint64_t number) override {
    return integer(
        static_cast<std::int64_t>(std::min<std::uint64_t>(number, std::numeric_limits<std::int64_t>::max())));
  }
  bool number_float(double number, const std::string& text) override {
    if (is_time()) time(to_nanoseconds(number, text));
    return true;
  }

  bool string(std::string& text) override {
    if (!in_event()) return true;
    if (key_ == "ph") is_complete_ = text == "X";
    if (key_ == "name") event_.name = found_.names.number(text);
    if (key_ == "pid") event_.process = found_.names.number(text);
    if (key_ == "tid") event_.thread = found_.names.number(text);
    if (key_ == "cat") {
      kind_.reset();
      for (const Category& one : kCategories) {
        if (one.text == text) kind_ = one.kind;
      }
    }
    return true;
  }

  bool start_object(std::size_t) override {
    ++level_;
    if (level_ == list_level_ + 1) begin_event();
    return true;
  }
  bool end_object() override {
    if (level_ == list_level_ + 1) end_event();
    --level_;
    return true;
  }
  bool start_array(std::size_t) override {
    ++level_;
    if (list_level_ == kNone && (level_ == 1 || (level_ == 2 && key_ == "traceEvents"))) {
      list_level_ = level_;
      has_list_ = true;
    }
    return true;
  }
  bool end_array() override {
    if (level_ == list_level_) list_level_ = kNone;
    --level_;
    return true;
  }
  bool key(std::string& text) override {
    if (text.size() <= kLongestKey)
      key_ = text;
    else
      key_.clear();
    return true;
  }
  bool parse_error(std::size_t taken, const std::string&, const nlohmann::json::exception& error) override {
    fail_json(source_, taken, error.what());
  }

 private:
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max() - 8;
  static constexpr std::size_t kLongestKey = 16;

  bool in_event() const { return level_ == list_level_ + 1; }
  bool in_args() const { return level_ == list_level_ + 2; }

  void begin_event() {
    event_ = {};
    kind_.reset();
    is_complete_ = false;
    begin_.reset();
    duration_ = 0;
    has_bad_time_ = false;
  }

  void end_event() {
    if (!kind_ || !is_complete_) return;
    if (!begin_ || duration_ < 0 || has_bad_time_)
      source_.fail(taken_ - 1,
                   "expected an event with a time ts and a duration dur from 0 on, in microseconds, "
                   "found one without");
    event_.kind = *kind_;
    event_.begin = *begin_;
    event_.end = *begin_ + duration_;
    found_.events.push_back(event_);
  }

  bool integer(std::int64_t number) {
    if (in_args() && key_ == "correlation") event_.correlation = number;
    if (!in_event()) return true;
    if (key_ == "pid") event_.process = found_.names.number(std::to_string(number));
    if (key_ == "tid") event_.thread = found_.names.number(std::to_string(number));
    if (!is_time()) return true;
    const bool is_possible = number >= -kMostMicroseconds && number <= kMostMicroseconds;
    time(is_possible ? std::optional(number * kNanoseconds) : std::nullopt);
    return true;
  }

  bool is_time() const { return in_event() && (key_ == "ts" || key_ == "dur"); }

  void time(const std::optional<Time>& nanoseconds) {
    has_bad_time_ = has_bad_time_ || !nanoseconds;
    if (key_ == "ts") begin_ = nanoseconds;
    if (key_ == "dur") duration_ = nanoseconds.value_or(0);
  }

  const Source& source_;
  const std::size_t& taken_;  // bytes that the parser has read
  ChromeEvents found_;
  std::size_t level_ = 0;           // of arrays and objects around
  std::size_t list_level_ = kNone;  // of the list of events while inside it
  bool has_list_ = false;
  std::string key_;
  ChromeEvent event_;
  std::optional<Kind> kind_;
  bool is_complete_ = false;  // "ph": "X"
  std::optional<Time> begin_;
  Time duration_ = 0;
  bool has_bad_time_ = false;
};

}  // namespace

std::uint32_t Names::number(std::string_view text) {
  const auto found = numbers_.find(text);
  if (found != numbers_.end()) return found->second;
  texts_.emplace_back(text);
  const auto number = static_cast<std::uint32_t>(texts_.size() - 1);
  numbers_.emplace(texts_.back(), number);
  return number;
}

ChromeEvents read_chrome_events(const Source& source) {
  if (source.text.starts_with("\x1f\x8b"))
    source.fail(0, "expected JSON, found a gzip file; gunzip it first");
  std::size_t taken = 0;
  EventReader reader(source, taken);
  const char* begin = source.text.data();
  const char* end = begin + source.text.size();
  nlohmann::json::sax_parse(CountingIterator(begin, &taken), CountingIterator(end, &taken), &reader);
  return reader.finish();
}

}  // namespace counterflow
