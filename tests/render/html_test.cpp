#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/render.h"
#include "support/timelines.h"

namespace counterflow {
namespace {

using nlohmann::json;
using testing::for_each_timeline;
using testing::timeline_of;

/// What stands between the data element's tags.
json data_of(const std::string& page) {
  const std::string_view begin = R"(<script id="data" type="application/json">)";
  const std::size_t from = page.find(begin) + begin.size();
  return json::parse(page.substr(from, page.find("</script>", from) - from));
}

std::string from_base64(const std::string& text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(digits.find(c));
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 255);
  }
  return bytes;
}

template <typename Number>
std::vector<std::int64_t> numbers(const std::string& bytes) {
  std::vector<std::int64_t> all;
  for (std::size_t at = 0; at + sizeof(Number) <= bytes.size(); at += sizeof(Number)) {
    Number number;
    std::memcpy(&number, bytes.data() + at, sizeof number);
    all.push_back(static_cast<std::int64_t>(number));
  }
  return all;
}

std::vector<std::int64_t> unpack(const json& array) {
  const std::string bytes = from_base64(array["data"]);
  if (array["type"] == "Uint8Array") return numbers<std::uint8_t>(bytes);
  if (array["type"] == "Uint16Array") return numbers<std::uint16_t>(bytes);
  if (array["type"] == "Int32Array") return numbers<std::int32_t>(bytes);
  EXPECT_EQ(array["type"], "Float64Array");
  return numbers<double>(bytes);
}

/// The bars of each rank as the page has them.
std::vector<std::vector<Bar>> bars_in(const json& timeline) {
  const json& table = timeline["bars"];
  const auto first = unpack(timeline["firstBar"]);
  std::vector<std::vector<std::int64_t>> columns;
  for (const char* name : {"begin", "end", "kind", "stage", "microBatch", "kind2", "stage2", "microBatch2"}) {
    columns.push_back(unpack(table[name]));
    EXPECT_EQ(columns.back().size(), static_cast<std::size_t>(first.back()));
  }
  std::vector<std::vector<Bar>> ranks;
  for (std::size_t rank = 0; rank + 1 < first.size(); ++rank) {
    ranks.emplace_back();
    for (std::int64_t bar = first[rank]; bar < first[rank + 1]; ++bar) {
      const auto pass = [&](std::size_t column) {
        return Pass{static_cast<std::int32_t>(columns[column + 1][bar]),
                    static_cast<std::int32_t>(columns[column + 2][bar]),
                    static_cast<PassKind>(columns[column][bar])};
      };
      const Action action = columns[6][bar] < 0 ? Action(pass(2)) : Action::overlap(pass(2), pass(5));
      ranks.back().push_back({action, columns[0][bar], columns[1][bar]});
    }
  }
  return ranks;
}

void expect_shows(const json& page, const Timeline& timeline) {
  const auto ranks = bars_in(page);
  ASSERT_EQ(ranks.size(), timeline.ranks.size());
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) EXPECT_EQ(ranks[rank], timeline.ranks[rank].bars);
}

TEST(HtmlTest, HoldsEachActionOnceAtItsTime) {
  for_each_timeline([](const Timeline& timeline) {
    expect_shows(data_of(draw_html({&timeline, 1}))["timelines"][0], timeline);
  });
}

TEST(HtmlTest, HoldsEachMessageBetweenItsBars) {
  const Timeline timeline = timeline_of("dualpipe", {4, 8}, "f=2,i=3,w=1,fb=5");
  const json page = data_of(draw_html({&timeline, 1}))["timelines"][0];
  const auto first = unpack(page["firstBar"]);
  std::vector<std::vector<std::int64_t>> expected;
  for (const LinkTimeline& link : timeline.links) {
    for (const Transfer& one : link.transfers)
      expected.push_back({first[link.from] + one.sender, first[link.to] + one.receiver, one.begin, one.end});
  }
  const json& table = page["transfers"];
  std::vector<std::vector<std::int64_t>> found(expected.size());
  for (const char* name : {"sender", "receiver", "begin", "end"}) {
    const auto column = unpack(table[name]);
    ASSERT_EQ(column.size(), expected.size());
    for (std::size_t i = 0; i < column.size(); ++i) found[i].push_back(column[i]);
  }
  EXPECT_EQ(found, expected);
}

TEST(HtmlTest, LargeAndRealTimesSurvive) {
  Timeline timeline = timeline_of("1f1b", {2, 4});
  for (RankTimeline& rank : timeline.ranks) {
    for (Bar& bar : rank.bars) bar.begin *= std::int64_t{1} << 40, bar.end *= std::int64_t{1} << 40;
  }
  expect_shows(data_of(draw_html({&timeline, 1}))["timelines"][0], timeline);
}

TEST(HtmlTest, TakesNothingFromTheNetwork) {
  const Timeline timeline = timeline_of("dualpipe", {4, 8});
  const std::string page = draw_html({&timeline, 1});
  for (const char* what : {"http:", "https:", "src=", "@import", "url(", "fetch(", "{{"})
    EXPECT_EQ(page.find(what), std::string::npos) << what;
}

TEST(HtmlTest, NamesCannotBreakOutOfThePage) {
  Timeline timeline = timeline_of("1f1b", {2, 4});
  timeline.name = "</script><script>alert(1)</script>{{script}}\xff";
  const std::string page = draw_html({&timeline, 1});
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_NE(page.find("&lt;script>alert"), std::string::npos);
  const std::string name = data_of(page)["timelines"][0]["name"];
  EXPECT_EQ(name.substr(0, 9), "</script>");
  EXPECT_EQ(page.find('\xff'), std::string::npos);
}

TEST(HtmlTest, SeveralTimelinesAreInOneUnit) {
  std::vector<Timeline> both = {timeline_of("1f1b", {2, 4}), timeline_of("1f1b", {2, 4})};
  both[1].unit_ns = 1;
  const json page = data_of(draw_html(both));
  ASSERT_EQ(page["timelines"].size(), 2U);
  EXPECT_EQ(page["timelines"][0]["unitNs"], 1);
  EXPECT_EQ(page["timelines"][0]["makespan"], both[0].end() * 1000);
  EXPECT_EQ(page["timelines"][1]["makespan"], both[1].end());
  EXPECT_NE(page["timelines"][0]["name"], page["timelines"][1]["name"]);
}

TEST(HtmlTest, AnEmptyTimelineHasAPage) {
  const Timeline nothing;
  EXPECT_EQ(data_of(draw_html({&nothing, 1}))["timelines"][0]["makespan"], 0);
}

}  // namespace
}  // namespace counterflow
