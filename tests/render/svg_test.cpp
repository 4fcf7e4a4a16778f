#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/render.h"
#include "render/golden.h"
#include "support/timelines.h"

namespace counterflow {
namespace {

using testing::for_each_timeline;
using testing::timeline_of;

struct Rectangle {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
};

struct Label {
  double x = 0;  // of its middle
  double y = 0;
  std::string text;
};

/// A picture read back: the rectangles of every class, and the labels in bars.
struct Picture {
  std::map<std::string, std::vector<Rectangle>> rectangles;
  std::vector<Label> labels;
};

std::vector<Rectangle> rectangles_of(const std::string& d) {
  static const std::regex kRectangle(R"(M([-.\d]+) ([-.\d]+)h([-.\d]+)v([-.\d]+)h-[-.\d]+z)");
  std::vector<Rectangle> all;
  for (auto m = std::sregex_iterator(d.begin(), d.end(), kRectangle); m != std::sregex_iterator(); ++m)
    all.push_back({std::stod(m->str(1)), std::stod(m->str(2)), std::stod(m->str(3)), std::stod(m->str(4))});
  return all;
}

Picture read(const std::string& svg) {
  const std::string path = "<path class=\"";
  static const std::regex kText(R"re(<text x="([-.\d]+)" y="([-.\d]+)">(\d+)</text>)re");
  Picture picture;
  std::istringstream lines(svg);
  bool in_bars = false;
  bool in_legend = false;
  for (std::string line; std::getline(lines, line);) {
    std::smatch m;
    if (line.find("<g class=\"") == 0) in_bars = line.find("on-") != std::string::npos;
    if (line == "</g>") in_bars = false;
    in_legend |= line.find(">rank ") != std::string::npos;  // after the margins only the legend
    if (!in_legend && line.starts_with(path)) {
      // Cut by hand: std::regex goes one call deeper for each character of a long path.
      const std::size_t name_end = line.find('"', path.size());
      const std::size_t d = line.find(" d=\"", name_end) + 4;
      auto& all = picture.rectangles[line.substr(path.size(), name_end - path.size())];
      const std::vector<Rectangle> more = rectangles_of(line.substr(d, line.find('"', d) - d));
      all.insert(all.end(), more.begin(), more.end());
    }
    if (in_bars && std::regex_match(line, m, kText))
      picture.labels.push_back({std::stod(m[1]), std::stod(m[2]), m[3]});
  }
  return picture;
}

/// One pass as drawn or as expected: kind and shade ("f0"), which part of the bar, when, which micro-batch.
using Drawn = std::tuple<int, Time, Time, std::string, std::string, std::string>;

/// What lies inside a bar; taken away, so that no label serves twice.
std::string take_label(Picture& picture, const Rectangle& bar) {
  for (auto label = picture.labels.begin(); label != picture.labels.end(); ++label) {
    if (std::abs(label->x - (bar.x + bar.width / 2)) > 0.02 || label->y < bar.y ||
        label->y > bar.y + bar.height)
      continue;
    std::string text = label->text;
    picture.labels.erase(label);
    return text;
  }
  return "none";
}

std::vector<Drawn> drawn_in(Picture picture, Time end) {
  const std::vector<Rectangle> tracks = picture.rectangles.at("idle");
  std::vector<Drawn> all;
  for (const auto& [name, rectangles] : picture.rectangles) {
    if (name == "idle" || name == "pair") continue;
    for (const Rectangle& one : rectangles) {
      const auto track = std::find_if(tracks.begin(), tracks.end(), [&](const Rectangle& t) {
        return one.y >= t.y && one.y + one.height <= t.y + t.height;
      });
      EXPECT_NE(track, tracks.end());
      const double scale = static_cast<double>(end) / track->width;
      const std::string part = one.height == track->height ? "whole" : one.y == track->y ? "upper" : "lower";
      const auto time = [&](double x) {
        const double exact = (x - track->x) * scale;
        EXPECT_NEAR(exact, std::round(exact), 0.05);  // coordinates have two decimals
        return static_cast<Time>(std::llround(exact));
      };
      all.emplace_back(static_cast<int>(track - tracks.begin()), time(one.x), time(one.x + one.width), part,
                       name, take_label(picture, one));
    }
  }
  EXPECT_TRUE(picture.labels.empty()) << "a label outside of any bar: " << picture.labels[0].text;
  std::sort(all.begin(), all.end());
  return all;
}

std::string class_of(const Placement& placement, const Pass& pass) {
  int shade = placement.direction_of(pass.micro_batch);
  if (placement.num_directions() == 1) {
    const auto stages = placement.stages_on(placement.rank_of(pass.stage, pass.micro_batch), 0);
    shade = static_cast<int>(std::find(stages.begin(), stages.end(), pass.stage) - stages.begin());
  }
  return std::string(1, static_cast<char>(std::tolower(letter(pass.kind)))) + std::to_string(shade);
}

std::vector<Drawn> expected_of(const Timeline& timeline) {
  std::vector<Drawn> all;
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    for (const Bar& bar : timeline.ranks[rank].bars) {
      for (const Pass& pass : bar.action.passes()) {
        const std::string part = !bar.action.is_overlap()          ? "whole"
                                 : pass.kind == PassKind::kForward ? "upper"
                                                                   : "lower";
        all.emplace_back(static_cast<int>(rank), bar.begin, bar.end, part, class_of(timeline.placement, pass),
                         std::to_string(pass.micro_batch));
      }
    }
  }
  std::sort(all.begin(), all.end());
  return all;
}

void expect_shows(const std::string& svg, const Timeline& timeline) {
  const std::vector<Drawn> drawn = drawn_in(read(svg), timeline.end());
  const std::vector<Drawn> expected = expected_of(timeline);
  ASSERT_EQ(drawn.size(), expected.size());
  for (std::size_t i = 0; i < drawn.size(); ++i) EXPECT_EQ(drawn[i], expected[i]);
}

TEST(SvgTest, ShowsEachActionOnceAtItsTime) {
  for_each_timeline([](const Timeline& timeline) { expect_shows(draw_svg({&timeline, 1}), timeline); });
}

TEST(SvgTest, AnOverlappedPairIsOutlined) {
  const Timeline timeline = timeline_of("dualpipe", {8, 20}, "f=1,i=1,w=1,fb=3");
  std::size_t pairs = 0;
  for (const RankTimeline& rank : timeline.ranks) {
    for (const Bar& bar : rank.bars) pairs += bar.action.is_overlap() ? 1 : 0;
  }
  EXPECT_EQ(read(draw_svg({&timeline, 1})).rectangles.at("pair").size(), pairs);
  EXPECT_EQ(pairs, 82U);  // 2 x (9 + 10 + 11 + 11)
}

TEST(SvgTest, SaysBubblePeakAndDirections) {
  Timeline timeline = timeline_of("dualpipe", {8, 20}, "f=1,i=1,w=1,fb=3");
  const std::string svg = draw_svg({&timeline, 1});
  EXPECT_NE(svg.find("makespan 66, bubble 9.1 %, at most 9 activations"), std::string::npos);
  EXPECT_NE(svg.find("micro-batches 10-19 go from rank 7 to rank 0"), std::string::npos);
  EXPECT_NE(svg.find("prefers-color-scheme:dark"), std::string::npos);
}

TEST(SvgTest, BytesStandInTheMarginWhereTheyAreKnown) {
  CostModel costs;
  costs.stages[0].activation_bytes = 3 << 20;
  const Timeline timeline = timeline_of(generate("1f1b", {4, 8}), costs);
  const std::string svg = draw_svg({&timeline, 1});
  EXPECT_NE(svg.find(">12.0 MiB<"), std::string::npos);
}

TEST(SvgTest, NamesAreEscaped) {
  Timeline timeline = timeline_of("1f1b", {2, 4});
  timeline.name = "<script>\"&\"</script>\xff";
  const std::string svg = draw_svg({&timeline, 1});
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  EXPECT_NE(svg.find("&lt;script&gt;&quot;&amp;&quot;&lt;/script&gt;"), std::string::npos);
  EXPECT_EQ(svg.find('\xff'), std::string::npos);  // no viewer would show it: XML is UTF-8
}

TEST(SvgTest, LegendSaysWhatShadesMeanInEverySchedule) {
  const Timeline v = timeline_of("zbv", {4, 8}), pair = timeline_of("dualpipe", {4, 8});
  for (const std::vector<Timeline>& both : {std::vector<Timeline>{v, pair}, {pair, v}, {pair, pair}}) {
    const std::string svg = draw_svg(both);
    const auto count = [&](const std::string& text) {
      int found = 0;
      for (auto at = svg.find(text); at != std::string::npos; at = svg.find(text, at + 1)) ++found;
      return found;
    };
    EXPECT_EQ(count(">micro-batches 4-7 go from rank 3 to rank 0<"), 1);
    EXPECT_EQ(count(">last stage of each rank<"), both[0].name == both[1].name ? 0 : 1);
  }
}

TEST(SvgTest, SeveralTimelinesShareOneScale) {
  const std::vector<Timeline> both = {timeline_of("1f1b", {2, 4}), timeline_of("zb-h1", {2, 4})};
  const Picture picture = read(draw_svg({both.data(), 1}));
  ASSERT_EQ(picture.rectangles.at("idle").size(), 2U);
  const std::string svg = draw_svg(both);
  EXPECT_NE(svg.find("1f1b"), std::string::npos);
  EXPECT_NE(svg.find("zb-h1"), std::string::npos);
  // The longer one ends where the tracks end, the shorter one before.
  std::vector<double> ends;
  std::istringstream lines(svg);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("class=\"b0\"") == std::string::npos && line.find("class=\"w0\"") == std::string::npos)
      continue;
    const std::vector<Rectangle> all = rectangles_of(line);
    if (all.size() < 2) continue;  // the legend's
    double end = 0;
    for (const Rectangle& one : all) end = std::max(end, one.x + one.width);
    ends.push_back(end);
  }
  ASSERT_EQ(ends.size(), 2U);
  EXPECT_NEAR((ends[0] - 62) / (ends[1] - 62), 15.0 / 13.0, 1e-3);
}

TEST(SvgTest, RefusesWhatNoViewerWouldOpen) {
  Timeline timeline = timeline_of("1f1b", {2, 4});
  timeline.ranks[0].bars.resize(500001, timeline.ranks[0].bars[0]);
  EXPECT_THROW(draw_svg({&timeline, 1}), InvalidConfig);
}

TEST(SvgTest, NothingToDrawIsNoError) {
  const Timeline empty;
  EXPECT_NE(draw_svg({&empty, 1}).find("</svg>"), std::string::npos);
  EXPECT_NE(draw_svg({}).find("</svg>"), std::string::npos);
}

TEST(SvgTest, PicturesAreAsKept) {
  const Timeline dualpipe = timeline_of("dualpipe", {4, 8}, "f=1,i=1,w=1,fb=3");
  testing::expect_golden("dualpipe_4x8.svg", draw_svg({&dualpipe, 1}));
  const Timeline interleaved = timeline_of("interleaved-1f1b", {2, 4, 3});
  testing::expect_golden("interleaved-1f1b_2x4x3.svg", draw_svg({&interleaved, 1}));
}

// README shows this file.
TEST(SvgTest, ExampleIsWhatWeDraw) {
  const Timeline dualpipe = timeline_of("dualpipe", {8, 20}, "f=1,i=1,w=1,fb=3");
  testing::expect_golden("../../../examples/dualpipe-8x20.svg", draw_svg({&dualpipe, 1}));
}

}  // namespace
}  // namespace counterflow
