#include "counterflow/format.h"
#include "header.h"
#include "limits.h"
#include "row_reader.h"
#include "torch_csv.h"

namespace counterflow {
namespace {

bool is_comment(std::string_view line) {
  return line.starts_with("##");
}

std::string_view without_commas_at_end(std::string_view line) {
  return line.substr(0, line.find_last_not_of(',') + 1);
}

Schedule parse_counterflow(const Source& source) {
  Lines lines(source.text);
  // Spreadsheets give all rows as many cells.
  const bool is_padded = trim(lines.next()) != kMagic;
  HeaderReader header(source);
  while (!lines.at_end() && lines.peek().starts_with('#')) {
    const std::string_view line = lines.next();
    if (!is_comment(line)) header.add(is_padded ? without_commas_at_end(trim(line)) : line);
  }
  Schedule schedule = header.finish(source.text.size() - lines.rest().size());
  const auto ranks = static_cast<std::size_t>(schedule.num_ranks());
  while (!lines.at_end()) {
    const std::string_view line = lines.next();
    const bool is_row = schedule.actions.size() < ranks;
    if (is_comment(line) || (!is_row && without_commas_at_end(trim(line)).empty())) continue;
    if (!is_row) {
      source.fail(source.offset_of(line),
                  "expected " + std::to_string(ranks) +
                      " lines of actions, one for each rank, found another: " + quote(line));
    }
    schedule.actions.push_back(read_row(source, line, [](const Action&, std::size_t) {}));
  }
  if (schedule.actions.size() < ranks) {
    source.fail(source.text.size(),
                "expected " + std::to_string(ranks) +
                    " lines of actions, one for each rank (empty where it has none), found " +
                    std::to_string(schedule.actions.size()));
  }
  const std::string too_large = excess(schedule);
  if (!too_large.empty()) header.refuse_size(too_large);
  return schedule;
}

}  // namespace

Schedule parse(std::string_view text, const std::string& file) {
  const Source source{text, file};
  const std::string_view first_line = trim(Lines(text).peek());
  if (without_commas_at_end(first_line) == kMagic) return parse_counterflow(source);
  if (first_line.starts_with('#')) {
    source.fail(0, "expected \"" + std::string(kMagic) + "\" as the first line, found " + quote(first_line));
  }
  return parse_torch_csv(source);
}

}  // namespace counterflow
