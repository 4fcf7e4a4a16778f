#include "counterflow/format.h"

#include <algorithm>
#include <string>

#include "action_text.h"
#include "counterflow/error.h"
#include "header.h"
#include "limits.h"

namespace counterflow {
namespace {

void append_line(std::string& out, std::string_view key, std::string_view value) {
  out += "# ";
  out += key;
  out += ": ";
  out += value;
  out += '\n';
}

std::string range(std::int32_t first, std::int32_t last) {
  return first == last ? std::to_string(first) : std::to_string(first) + '-' + std::to_string(last);
}

/// Ranks as ranges of neighbours: "0-3 3-0".
std::string rank_ranges(const std::vector<std::int32_t>& ranks) {
  std::string out;
  for (std::size_t begin = 0; begin < ranks.size();) {
    std::size_t last = begin;
    const std::int32_t step = begin + 1 < ranks.size() && ranks[begin + 1] < ranks[begin] ? -1 : 1;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + step) ++last;
    if (begin > 0) out += ' ';
    out += range(ranks[begin], ranks[last]);
    begin = last + 1;
  }
  return out;
}

std::string direction_text(const Direction& direction) {
  const std::int32_t first = direction.first_micro_batch;
  return "micro-batches " + range(first, first + direction.num_micro_batches - 1) + " on ranks " +
         rank_ranges(direction.rank_of_stage);
}

std::string claim_text(const Claim& claim) {
  const std::string cost = to_string(claim.cost);
  const bool readable = claim.bubble >= 0 && parse_uniform_cost(cost) == claim.cost;
  if (!readable)
    throw InvalidConfig("claim: expected a bubble from 0 on, found " + std::to_string(claim.bubble));
  return "bubble " + std::to_string(claim.bubble) + " at " + cost;
}

/// A name with what would not survive in a line, and every backslash, as \xHH.
std::string name_text(std::string_view name) {
  std::string out;
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t backslash = std::min(name.find('\\', begin), name.size());
    append_escaped(out, name.substr(begin, backslash - begin));
    if (backslash < name.size()) out += "\\x5c";
    begin = backslash + 1;
  }
  if (out.ends_with(' ')) out.replace(out.size() - 1, 1, "\\x20");
  if (out.starts_with(' ')) out.replace(0, 1, "\\x20");
  return out;
}

}  // namespace

std::string format(const Schedule& schedule) {
  const Placement& placement = schedule.placement;
  if (placement.num_ranks() == 0) {
    throw InvalidConfig("schedule: expected a placement with ranks, found none");
  }
  const std::string too_large = excess(schedule);
  if (!too_large.empty()) throw InvalidConfig("schedule: " + too_large);
  std::string out(kMagic);
  out += '\n';
  append_line(out, "name", name_text(schedule.name));
  append_line(out, "ranks", std::to_string(placement.num_ranks()));
  append_line(out, "stages", std::to_string(placement.num_stages()));
  append_line(out, "micro-batches", std::to_string(placement.num_micro_batches()));
  for (const Direction& direction : placement.directions()) {
    append_line(out, "direction", direction_text(direction));
  }
  if (schedule.passes == Passes::kForward) append_line(out, "passes", "forward");
  for (const Claim& claim : schedule.claims) append_line(out, "claim", claim_text(claim));
  append_rows(out, schedule);
  return out;
}

}  // namespace counterflow
