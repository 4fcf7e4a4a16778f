// One HTML file that holds the page (src/render/page) and the timelines as typed arrays in base64.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/render.h"
#include "labels.h"
#include "page.h"
#include "palette.h"

namespace counterflow {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostBars = 4'000'000;

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t three = 0;
    for (std::size_t k = 0; k < 3; ++k)
      three = three << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k) text += k <= count ? kDigits[three >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

/// A typed array: its JavaScript type, and its little-endian bytes in base64.
template <typename Number>
Json typed(const char* type, const std::vector<std::int64_t>& values) {
  std::string bytes;
  bytes.reserve(values.size() * sizeof(Number));
  for (const std::int64_t value : values) {
    const auto number = static_cast<Number>(value);
    std::array<char, sizeof(Number)> raw;
    std::memcpy(raw.data(), &number, sizeof number);
    if constexpr (std::endian::native == std::endian::big) std::reverse(raw.begin(), raw.end());
    bytes.append(raw.data(), raw.size());
  }
  return {{"type", type}, {"data", base64(bytes)}};
}

/// In the smallest type that holds all values.
Json pack(const std::vector<std::int64_t>& values) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  if (values.empty() || (*least >= 0 && *most <= 255)) return typed<std::uint8_t>("Uint8Array", values);
  if (*least >= 0 && *most <= 65535) return typed<std::uint16_t>("Uint16Array", values);
  if (*least >= std::numeric_limits<std::int32_t>::min() && *most <= std::numeric_limits<std::int32_t>::max())
    return typed<std::int32_t>("Int32Array", values);
  return typed<double>("Float64Array", values);
}

/// Columns of numbers, gathered row by row.
template <std::size_t kColumns>
class Table {
 public:
  void add(const std::array<std::int64_t, kColumns>& row) {
    for (std::size_t c = 0; c < kColumns; ++c) columns_[c].push_back(row[c]);
  }
  Json json(const std::array<const char*, kColumns>& names) const {
    Json table;
    for (std::size_t c = 0; c < kColumns; ++c) table[names[c]] = pack(columns_[c]);
    return table;
  }

 private:
  std::array<std::vector<std::int64_t>, kColumns> columns_;
};

/// The number of a rank's first bar among all bars of its timeline.
std::vector<std::int64_t> first_bars(const Timeline& timeline) {
  std::vector<std::int64_t> first{0};
  for (const RankTimeline& rank : timeline.ranks)
    first.push_back(first.back() + static_cast<std::int64_t>(rank.bars.size()));
  return first;
}

/// A pass that a bar does not have is -1.
Json bars_of(const Timeline& timeline) {
  const Shades shades(timeline.placement);
  Table<10> table;
  for (const RankTimeline& rank : timeline.ranks) {
    for (const Bar& bar : rank.bars) {
      const auto passes = bar.action.passes();
      std::array<std::int64_t, 10> row = {bar.begin, bar.end, 0, 0, 0, 0, -1, -1, -1, -1};
      for (std::size_t p = 0; p < passes.size(); ++p) {
        const std::array<std::int64_t, 4> pass = {static_cast<std::int64_t>(passes[p].kind), passes[p].stage,
                                                  passes[p].micro_batch, shades.of(passes[p]).index};
        std::copy(pass.begin(), pass.end(), row.begin() + 2 + 4 * static_cast<std::ptrdiff_t>(p));
      }
      table.add(row);
    }
  }
  return table.json(
      {"begin", "end", "kind", "stage", "microBatch", "shade", "kind2", "stage2", "microBatch2", "shade2"});
}

Json transfers_of(const Timeline& timeline, const std::vector<std::int64_t>& first_bar) {
  Table<5> table;
  for (const LinkTimeline& link : timeline.links) {
    for (const Transfer& transfer : link.transfers) {
      const auto id = [&](std::int32_t rank, std::int32_t bar) {
        const std::int64_t count = first_bar[rank + 1] - first_bar[rank];
        return bar >= 0 && bar < count ? first_bar[rank] + bar : -1;
      };
      const std::int64_t sender = id(link.from, transfer.sender);
      const std::int64_t receiver = id(link.to, transfer.receiver);
      if (sender >= 0 && receiver >= 0)
        table.add({sender, receiver, transfer.begin, transfer.end,
                   transfer.pass.kind == PassKind::kForward ? 0 : 1});
    }
  }
  return table.json({"sender", "receiver", "begin", "end", "isGradient"});
}

Json activations_of(const Timeline& timeline) {
  std::vector<std::int64_t> first{0};
  Table<3> table;
  for (const RankTimeline& rank : timeline.ranks) {
    for (const ActivationSample& sample : rank.activations)
      table.add({sample.time, sample.count, sample.bytes});
    first.push_back(first.back() + static_cast<std::int64_t>(rank.activations.size()));
  }
  Json json = table.json({"time", "count", "bytes"});
  json["first"] = pack(first);
  return json;
}

Json summaries_of(const Timeline& timeline) {
  Json ranks = Json::array();
  for (const RankSummary& rank : summarize(timeline)) {
    ranks.push_back({{"busy", rank.busy},
                     {"idle", rank.idle},
                     {"spanIdle", rank.span_idle},
                     {"peak", rank.peak_activations},
                     {"peakBytes", rank.peak_bytes}});
  }
  return ranks;
}

Json idle_of(const Timeline& timeline) {
  Json ranks = Json::array();
  for (const IdleSplit& rank : timeline.idle) {
    ranks.push_back({{"waiting", rank.waiting},
                     {"transfer", rank.transfer},
                     {"launchGap", rank.launch_gap},
                     {"imbalance", rank.imbalance}});
  }
  return ranks;
}

Json directions_of(const Placement& placement) {
  Json directions = Json::array();
  for (const Direction& direction : placement.directions()) {
    directions.push_back({{"first", direction.first_micro_batch},
                          {"count", direction.num_micro_batches},
                          {"rankOfStage", direction.rank_of_stage}});
  }
  return directions;
}

Json timeline_json(const Timeline& timeline, const std::string& name) {
  const std::vector<std::int64_t> first_bar = first_bars(timeline);
  std::vector<std::int64_t> critical;
  for (const BarId& id : timeline.critical_path) critical.push_back(first_bar[id.rank] + id.bar);
  return {{"name", name},
          {"description", describe(timeline)},
          {"unitNs", timeline.unit_ns},
          {"makespan", timeline.end()},
          {"stages", timeline.placement.num_stages()},
          {"microBatches", timeline.placement.num_micro_batches()},
          {"directions", directions_of(timeline.placement)},
          {"directionNames", describe_directions(timeline.placement)},
          {"shades", Shades(timeline.placement).count()},
          {"labelNeedsStage", Shades(timeline.placement).needs_stage(Shades::kMost)},
          {"ranks", summaries_of(timeline)},
          {"idle", idle_of(timeline)},
          {"firstBar", pack(first_bar)},
          {"bars", bars_of(timeline)},
          {"transfers", transfers_of(timeline, first_bar)},
          {"activations", activations_of(timeline)},
          {"critical", pack(critical)}};
}

/// [kind][shade]: colour, and whether text on it is light.
Json palette_of(int shades) {
  Json kinds = Json::array();
  for (std::size_t k = 0; k < kPalette.size(); ++k) {
    Json colours = Json::array();
    for (int shade = 0; shade < shades; ++shade) {
      const Colour colour = blend(static_cast<PassKind>(k), shade, shades);
      colours.push_back({{"rgb", colour.rgb}, {"lightText", colour.light_text}});
    }
    kinds.push_back(colours);
  }
  return kinds;
}

void check_size(std::span<const Timeline> timelines) {
  std::size_t bars = 0;
  for (const Timeline& timeline : timelines) {
    for (const RankTimeline& rank : timeline.ranks) bars += rank.bars.size();
  }
  if (bars <= kMostBars) return;
  throw InvalidConfig("HTML: expected at most " + std::to_string(kMostBars) + " actions, found " +
                      std::to_string(bars) + "; use .pftrace");
}

/// Puts `text` in the place of `mark`.
void fill_in(std::string& page, std::string_view mark, std::string_view text) {
  page.replace(page.find(mark), mark.size(), text);
}

/// JSON that may stand in a script element: nothing in it can end that.
std::string script_safe(const Json& json) {
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (std::size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at))
    text.replace(at, 1, "\\u003c");
  return text;
}

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) safe += c == '&' ? "&amp;" : c == '<' ? "&lt;" : std::string(1, c);
  return safe;
}

}  // namespace

std::string draw_html(std::span<const Timeline> timelines) {
  check_size(timelines);
  const std::vector<Timeline> same = in_one_unit(timelines);
  const std::vector<std::string> names = distinct_titles(same);
  Json all = Json::array();
  std::string name;
  for (std::size_t t = 0; t < same.size(); ++t) {
    all.push_back(timeline_json(same[t], names[t]));
    name += (t == 0 ? "" : ", ") + names[t];
  }
  Json palettes = Json::array();  // [shades - 1]
  for (int shades = 1; shades <= Shades::kMost; ++shades) palettes.push_back(palette_of(shades));
  std::string script;
  for (const std::string_view file : kPageJs) script += file;
  // From the last mark to the first: what is filled in may look like a mark, but comes after all that are
  // left.
  std::string page(kPageHtml);
  fill_in(page, "{{script}}", script);
  fill_in(page, "{{data}}", script_safe({{"palettes", palettes}, {"timelines", all}}));
  fill_in(page, "{{style}}", kPageCss);
  fill_in(page, "{{title}}", escaped(name));
  return page;
}

}  // namespace counterflow
