#include "counterflow/recording.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "action_text.h"
#include "counterflow/error.h"
#include "counterflow/format.h"
#include "dataflow.h"
#include "file.h"
#include "json_tree.h"
#include "row_reader.h"

namespace counterflow {
namespace {

constexpr std::size_t kMostFileBytes = std::size_t{256} << 20;
constexpr std::size_t kMostRunBytes = std::size_t{1} << 30;
constexpr std::size_t kMostValues = std::size_t{1} << 23;
constexpr Time kMostTime = 1'000'000'000'000'000;  // in nanoseconds eleven days
constexpr std::int64_t kMostUnit = 1'000'000'000;
constexpr std::int64_t kVersion = 1;
constexpr const char* kMagicKey = "counterflow_recording";

std::string unit_range() {
  return "a whole number from 1 to " + std::to_string(kMostUnit);
}

/// What is wrong with a bar; empty where nothing is.
std::string bar_error(const Bar& bar, Time earliest, const Placement& placement, int rank) {
  for (const Pass& pass : bar.action.passes()) {
    if (pass.stage < 0 || pass.stage >= placement.num_stages() || pass.micro_batch < 0 ||
        pass.micro_batch >= placement.num_micro_batches())
      return "expected stages and micro-batches of the placement, found " + to_string(bar.action);
    const int right = placement.rank_of(pass.stage, pass.micro_batch);
    if (right != rank)
      return "expected actions of this rank, found " + to_string(bar.action) + " of rank " +
             std::to_string(right);
  }
  if (bar.begin >= earliest && bar.end >= bar.begin && bar.end <= kMostTime) return "";
  return to_string(bar.action) + ": expected a begin from the end of the action before it on (" +
         std::to_string(earliest) + ") and an end after it, at most " + std::to_string(kMostTime) +
         ", found " + std::to_string(bar.begin) + " to " + std::to_string(bar.end);
}

/// What is wrong with a message; empty where nothing is.
std::string transfer_error(const Transfer& transfer, const LinkTimeline& link, const Placement& placement) {
  const Pass& pass = transfer.pass;
  const bool is_there = pass.stage >= 0 && pass.stage < placement.num_stages() && pass.micro_batch >= 0 &&
                        pass.micro_batch < placement.num_micro_batches();
  const auto output = is_there ? output_of(pass, placement.num_stages()) : std::nullopt;
  if (!output || producer_rank(placement, *output) != link.from ||
      consumer_rank(placement, *output) != link.to)
    return "expected passes whose results go from rank " + std::to_string(link.from) + " to rank " +
           std::to_string(link.to) + ", found " + to_string(pass);
  if (transfer.begin >= 0 && transfer.end >= transfer.begin && transfer.end <= kMostTime) return "";
  return to_string(pass) + ": expected an arrival after the sending, both from 0 to " +
         std::to_string(kMostTime) + ", found sent " + std::to_string(transfer.begin) + ", arrived " +
         std::to_string(transfer.end);
}

/// Writes by hand: a JSON value for each time would take far more memory than the text.
class RecordingWriter {
 public:
  explicit RecordingWriter(const Timeline& timeline) : timeline_(timeline) {}

  std::string write() {
    check();
    out_ = std::string("{\n  \"") + kMagicKey + "\": " + std::to_string(kVersion) +
           ",\n  \"unit_ns\": " + std::to_string(timeline_.unit_ns) +
           ",\n  \"schedule\": " + nlohmann::json(format(schedule())).dump() + ",\n  \"ranks\": [";
    const char* joint = "\n";
    for (const RankTimeline& rank : timeline_.ranks) {
      out_ += joint;
      joint = ",\n";
      column("    {\"begin\": [", rank.bars, &Bar::begin);
      column("], \"end\": [", rank.bars, &Bar::end);
      out_ += "]}";
    }
    out_ += "\n  ],\n  \"messages\": [";
    joint = "\n";
    for (const LinkTimeline& link : timeline_.links) {
      if (link.transfers.empty()) continue;
      out_ += joint;
      joint = ",\n";
      write(link);
    }
    return std::move(out_) + "\n  ]\n}\n";
  }

 private:
  void check() const {
    const std::string begin = "recording: ";
    if (timeline_.unit_ns < 1 || timeline_.unit_ns > kMostUnit)
      throw InvalidConfig(begin + "expected unit_ns " + unit_range() + ", found " +
                          std::to_string(timeline_.unit_ns));
    for (std::size_t rank = 0; rank < timeline_.ranks.size(); ++rank) {
      Time earliest = 0;
      for (const Bar& bar : timeline_.ranks[rank].bars) {
        refuse(begin + "rank " + std::to_string(rank) + ": ",
               bar_error(bar, earliest, timeline_.placement, static_cast<int>(rank)));
        earliest = bar.end;
      }
    }
    for (const LinkTimeline& link : timeline_.links) {
      for (const Transfer& transfer : link.transfers)
        refuse(begin, transfer_error(transfer, link, timeline_.placement));
    }
  }

  static void refuse(const std::string& begin, const std::string& error) {
    if (!error.empty()) throw InvalidConfig(begin + error);
  }

  Schedule schedule() const {
    Schedule schedule;
    schedule.name = timeline_.name;
    schedule.placement = timeline_.placement;
    schedule.passes = timeline_.passes;
    for (const RankTimeline& rank : timeline_.ranks) {
      auto& actions = schedule.actions.emplace_back();
      for (const Bar& bar : rank.bars) actions.push_back(bar.action);
    }
    return schedule;
  }

  void write(const LinkTimeline& link) {
    out_ += "    {\"from\": " + std::to_string(link.from) + ", \"to\": " + std::to_string(link.to) +
            ", \"passes\": \"";
    for (std::size_t i = 0; i < link.transfers.size(); ++i) {
      if (i > 0) out_ += ',';
      append_action(out_, link.transfers[i].pass);
    }
    column("\", \"sent\": [", link.transfers, &Transfer::begin);
    column("], \"arrived\": [", link.transfers, &Transfer::end);
    out_ += "]}";
  }

  template <typename Row>
  void column(const char* begin, const std::vector<Row>& rows, Time Row::*member) {
    out_ += begin;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (i > 0) out_ += ',';
      out_ += std::to_string(rows[i].*member);
    }
  }

  const Timeline& timeline_;
  std::string out_;
};

class RecordingReader {
 public:
  explicit RecordingReader(const Source& source) : source_(source) {}

  Timeline read() {
    const JsonValue root = parse_json(source_, kMostValues);
    check_keys(root, "a recording", {kMagicKey, "unit_ns", "schedule", "ranks", "messages"});
    number(root.items[0], kVersion, kVersion);
    timeline_.unit_ns = number(root.items[1], 1, kMostUnit);
    read_schedule(root.items[2]);
    read_ranks(root.items[3]);
    read_messages(root.items[4]);
    connect(timeline_);
    return std::move(timeline_);
  }

 private:
  using Kind = JsonValue::Kind;

  [[noreturn]] void refuse(const JsonValue& value, const std::string& expected) const {
    source_.fail(value.offset, (value.key.empty() ? "" : std::string(value.key) + ": ") + "expected " +
                                   expected + ", found " + quote(json_text(source_, value.offset)));
  }

  /// That a value is an object of these keys, in this order.
  void check_keys(const JsonValue& value, const char* what, std::initializer_list<const char*> keys) const {
    std::string list;
    for (const char* key : keys) list += (list.empty() ? "" : ", ") + std::string(key);
    const bool is_right = value.kind == Kind::kObject && value.items.size() == keys.size() &&
                          std::equal(keys.begin(), keys.end(), value.items.begin(),
                                     [](const char* key, const JsonValue& item) { return item.key == key; });
    if (!is_right)
      source_.fail(value.offset, std::string("expected ") + what + " with " + list + " in this order");
  }

  std::int64_t number(const JsonValue& value, std::int64_t least, std::int64_t most) const {
    if (value.kind != Kind::kInteger || value.integer < least || value.integer > most)
      refuse(value, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    return value.integer;
  }

  const std::vector<JsonValue>& array(const JsonValue& value, const std::string& what) const {
    if (value.kind != Kind::kArray) refuse(value, "an array of " + what);
    return value.items;
  }

  /// A text between quotes, as it is written.
  std::string_view raw_text(const JsonValue& value) const {
    if (value.kind != Kind::kString) refuse(value, "a text");
    const std::size_t begin = value.offset + 1;
    std::size_t end = begin;
    while (source_.text[end] != '"') end += source_.text[end] == '\\' ? 2 : 1;
    return source_.text.substr(begin, end - begin);
  }

  void read_schedule(const JsonValue& value) {
    const std::string_view raw = raw_text(value);
    const std::string text =
        nlohmann::json::parse(source_.text.substr(value.offset, raw.size() + 2)).get<std::string>();
    const Schedule schedule = parse(text, source_.file + ": schedule");
    timeline_.name = schedule.name;
    timeline_.placement = schedule.placement;
    timeline_.passes = schedule.passes;
    for (const auto& actions : schedule.actions) {
      RankTimeline& rank = timeline_.ranks.emplace_back();
      for (const Action& action : actions) rank.bars.push_back({action});
    }
  }

  /// A column of times, one for each row.
  template <typename Row>
  void read_column(const JsonValue& value, std::vector<Row>& rows, Time Row::*member) const {
    const auto& times = array(value, "times");
    if (times.size() != rows.size())
      source_.fail(value.offset, std::string(value.key) + ": expected " + std::to_string(rows.size()) +
                                     " times, one for each action, found " + std::to_string(times.size()));
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].*member = number(times[i], 0, kMostTime);
  }

  void read_ranks(const JsonValue& value) {
    const auto& ranks = array(value, "ranks");
    if (ranks.size() != timeline_.ranks.size())
      source_.fail(value.offset, "ranks: expected " + std::to_string(timeline_.ranks.size()) +
                                     ", as the schedule has, found " + std::to_string(ranks.size()));
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      std::vector<Bar>& bars = timeline_.ranks[rank].bars;
      check_keys(ranks[rank], "a rank", {"begin", "end"});
      read_column(ranks[rank].items[0], bars, &Bar::begin);
      read_column(ranks[rank].items[1], bars, &Bar::end);
      Time earliest = 0;
      for (std::size_t bar = 0; bar < bars.size(); ++bar) {
        refuse(ranks[rank].items[0].items[bar],
               bar_error(bars[bar], earliest, timeline_.placement, static_cast<int>(rank)), rank);
        earliest = bars[bar].end;
      }
    }
  }

  void refuse(const JsonValue& value, const std::string& error, std::size_t rank) const {
    if (!error.empty()) source_.fail(value.offset, "rank " + std::to_string(rank) + ": " + error);
  }

  void read_messages(const JsonValue& value) {
    const std::int64_t last_rank = timeline_.placement.num_ranks() - 1;
    for (const JsonValue& one : array(value, "messages by link")) {
      check_keys(one, "a link", {"from", "to", "passes", "sent", "arrived"});
      LinkTimeline& link = timeline_.links.emplace_back();
      link.from = static_cast<std::int32_t>(number(one.items[0], 0, last_rank));
      link.to = static_cast<std::int32_t>(number(one.items[1], 0, last_rank));
      read_row(source_, raw_text(one.items[2]), [&](const Action& action, std::size_t offset) {
        if (action.is_overlap()) source_.fail(offset, "expected a pass, found " + to_string(action));
        link.transfers.push_back({.pass = action.passes()[0]});
      });
      read_column(one.items[3], link.transfers, &Transfer::begin);
      read_column(one.items[4], link.transfers, &Transfer::end);
      for (const Transfer& transfer : link.transfers) {
        const std::string error = transfer_error(transfer, link, timeline_.placement);
        if (!error.empty()) source_.fail(one.items[2].offset, error);
      }
    }
  }

  const Source& source_;
  Timeline timeline_;
};

}  // namespace

std::string format_recording(const Timeline& timeline) {
  return RecordingWriter(timeline).write();
}

Timeline parse_recording(std::string_view json, const std::string& file) {
  return RecordingReader({json, file}).read();
}

Timeline read_recording(const std::string& path) {
  return parse_recording(read_text(path, kMostFileBytes), path == "-" ? "<stdin>" : path);
}

std::string read_run_text(const std::string& path) {
  return read_text(path, kMostRunBytes);
}

bool is_recording(std::string_view json) {
  const std::size_t begin = json.find_first_not_of(" \t\r\n{");
  return begin != std::string_view::npos && json.substr(begin + 1).starts_with(kMagicKey);
}

}  // namespace counterflow
