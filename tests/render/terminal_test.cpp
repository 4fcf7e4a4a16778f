#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/render.h"
#include "render/golden.h"
#include "support/timelines.h"

namespace counterflow {
namespace {

using testing::for_each_timeline;
using testing::timeline_of;

/// A bar as the picture shows it: its label and its columns.
struct Drawn {
  std::string label;
  std::int64_t begin = 0;
  std::int64_t end = 0;

  friend bool operator==(const Drawn&, const Drawn&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Drawn& drawn) {
    return out << drawn.label << " [" << drawn.begin << ", " << drawn.end << ")";
  }
};

/// What lies between the | of each rank, all pages in a row. A > that fills the end of a page belongs to the
/// label on the next, and a < continues the page before: both become plain length of their bar.
std::vector<std::string> rows_of(const std::string& picture, std::size_t num_ranks) {
  static const std::regex kRow(R"( *(\d+) +[^|]*\|(.*)\|)");
  std::vector<std::string> rows(num_ranks);
  std::istringstream lines(picture);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, kRow)) rows.at(std::stoul(match[1])) += match[2];
  }
  return rows;
}

std::vector<Drawn> bars_of(const std::string& row) {
  static const std::regex kBar(R"((>*)(\d*[FBIW]\d+(\+\d*[FBIW]\d+)?)([ <]*)|\.+)");
  std::vector<Drawn> bars;
  std::size_t reached = 0;
  for (auto match = std::sregex_iterator(row.begin(), row.end(), kBar); match != std::sregex_iterator();
       ++match) {
    EXPECT_EQ(static_cast<std::size_t>(match->position()), reached) << "in " << row;
    reached = match->position() + match->length();
    if (match->str()[0] != '.')
      bars.push_back({match->str(2), match->position(), match->position() + match->length()});
  }
  EXPECT_EQ(reached, row.size());
  return bars;
}

std::string label_of(const Placement& placement, const Action& action) {
  bool with_stage = false;
  for (int rank = 0; rank < placement.num_ranks(); ++rank)
    with_stage |= placement.stages_on(rank, 0).size() > 1;
  std::string label;
  for (const Pass& pass : action.passes()) {
    if (!label.empty()) label += "+";
    const std::string text = to_string(pass);
    label += with_stage ? text : text.substr(text.find_first_not_of("0123456789"));
  }
  return label;
}

/// Every action once, at the time that the timeline gives, on a grid of `columns`.
void expect_shows(const std::string& picture, const Timeline& timeline) {
  const std::vector<std::string> rows = rows_of(picture, timeline.ranks.size());
  const auto columns = static_cast<double>(rows[0].size());
  const auto column = [&](Time time) {
    return std::llround(static_cast<double>(time) / static_cast<double>(timeline.end()) * columns);
  };
  for (std::size_t rank = 0; rank < rows.size(); ++rank) {
    std::vector<Drawn> expected;
    for (const Bar& bar : timeline.ranks[rank].bars)
      expected.push_back({label_of(timeline.placement, bar.action), column(bar.begin), column(bar.end)});
    EXPECT_EQ(bars_of(rows[rank]), expected) << picture;
  }
}

TEST(TerminalTest, ShowsEachActionOnceAtItsTime) {
  for_each_timeline([](const Timeline& timeline) {
    expect_shows(draw_terminal({&timeline, 1}, {.width = 1 << 20}), timeline);
  });
}

TEST(TerminalTest, PagesTogetherShowEachActionOnceAtItsTime) {
  for_each_timeline([](const Timeline& timeline) {
    expect_shows(draw_terminal({&timeline, 1}, {.width = 100}), timeline);
  });
}

TEST(TerminalTest, CostsWithoutCommonDivisorAreRoundedToColumns) {
  const Timeline timeline = timeline_of("dualpipe", {4, 10}, "f=5213,i=5104,w=2511,fb=9998", 17);
  const std::string picture = draw_terminal({&timeline, 1}, {.width = 120});
  EXPECT_NE(picture.find("rounded"), std::string::npos);
  expect_shows(picture, timeline);
}

TEST(TerminalTest, RowsKeepToTheWidth) {
  const Timeline timeline = timeline_of("dualpipe", {8, 20});
  for (const int width : {20, 30, 45, 60, 80, 133, 200}) {
    for (const bool one_page : {false, true}) {
      std::istringstream lines(draw_terminal({&timeline, 1}, {.width = width, .one_page = one_page}));
      int rows = 0;
      for (std::string line; std::getline(lines, line);) {
        if (line.find('|') == std::string::npos) continue;
        EXPECT_LE(line.size(), static_cast<std::size_t>(width));
        ++rows;
      }
      EXPECT_TRUE(one_page ? rows == 8 : rows > 8 && rows % 8 == 0) << rows;
    }
  }
}

TEST(TerminalTest, NarrowTerminalsShowEachActionOnceAtItsTime) {
  const Timeline timeline = timeline_of("dualpipe", {8, 20});
  for (const int width : {20, 30, 45}) {
    const std::string picture = draw_terminal({&timeline, 1}, {.width = width});
    expect_shows(picture, timeline);
    EXPECT_NE(picture.find("\nrank   0"), std::string::npos) << picture;
    EXPECT_EQ(picture.find("peak"), std::string::npos) << picture;
  }
}

TEST(TerminalTest, FiguresGiveWayToTheGridFromTheRight) {
  const Timeline timeline = timeline_of("dualpipe", {8, 20});
  EXPECT_NE(draw_terminal({&timeline, 1}, {.width = 60}).find("rank  idle  peak  "), std::string::npos);
  EXPECT_NE(draw_terminal({&timeline, 1}, {.width = 59}).find("rank  idle   0"), std::string::npos);
}

TEST(TerminalTest, OnePageSaysWhatItCouldNotDraw) {
  const Timeline timeline = timeline_of("1f1b", {4, 400});
  const std::string picture = draw_terminal({&timeline, 1}, {.width = 80, .one_page = true});
  EXPECT_NE(picture.find("actions shorter than a column are not drawn"), std::string::npos) << picture;
}

TEST(TerminalTest, ActionsThatTakeNoTimeAreCounted) {
  const Timeline timeline = timeline_of("zb-h1", {2, 4}, "f=1,i=1,w=0");
  const std::string picture = draw_terminal({&timeline, 1});
  EXPECT_NE(picture.find("8 actions shorter than a column are not drawn"), std::string::npos) << picture;
}

TEST(TerminalTest, SeveralTimelinesShareOneScale) {
  const std::vector<Timeline> both = {timeline_of("1f1b", {2, 4}), timeline_of("zb-h1", {2, 4})};
  const std::string picture = draw_terminal(both, {.width = 200});
  EXPECT_NE(picture.find("1f1b: 2 ranks"), std::string::npos) << picture;
  EXPECT_NE(picture.find("zb-h1: 2 ranks"), std::string::npos) << picture;
  std::istringstream lines(picture);
  std::vector<std::size_t> sizes;
  for (std::string line; std::getline(lines, line);) {
    if (line.find('|') != std::string::npos) sizes.push_back(line.size());
  }
  EXPECT_EQ(sizes, std::vector<std::size_t>(4, sizes.at(0)));
}

TEST(TerminalTest, UnitsOfTimeAreMadeTheSame) {
  Timeline plan = timeline_of("1f1b", {2, 4});  // in no unit in particular: microseconds here
  Timeline run = timeline_of("1f1b", {2, 4}, "f=1000,i=1000,w=1000");
  run.unit_ns = 1;
  const std::vector<Timeline> both = {plan, run};
  const std::string picture = draw_terminal(both, {.width = 200});
  EXPECT_NE(picture.find("makespan 15.00 us"), std::string::npos) << picture;
  EXPECT_EQ(picture.find("makespan 15.00 us"), picture.find("makespan")) << picture;
  const std::size_t second = picture.find("1f1b", 10);
  EXPECT_NE(picture.find("makespan 15.00 us", second), std::string::npos) << picture;
}

TEST(TerminalTest, ControlCharactersOfANameAreNotSent) {
  Timeline timeline = timeline_of("1f1b", {2, 4});
  timeline.name = "a\033[2Jb\n";
  const std::string picture = draw_terminal({&timeline, 1});
  EXPECT_EQ(picture.find('\033'), std::string::npos);
  EXPECT_EQ(picture.rfind("a?[2Jb?: 2 ranks", 0), 0U) << picture;
}

TEST(TerminalTest, RefusesMorePagesThanMemoryHolds) {
  Timeline timeline = timeline_of("1f1b", {1, 4000});
  timeline.ranks.resize(20000);
  EXPECT_THROW(draw_terminal({&timeline, 1}), InvalidConfig);
  EXPECT_FALSE(draw_terminal({&timeline, 1}, {.one_page = true}).empty());
}

TEST(TerminalTest, NothingToDrawIsNoError) {
  EXPECT_EQ(draw_terminal({}), "");
  const Timeline empty;
  EXPECT_NE(draw_terminal({&empty, 1}).find("0 ranks"), std::string::npos);
}

TEST(TerminalTest, PicturesAreAsKept) {
  const Timeline dualpipe = timeline_of("dualpipe", {4, 8}, "f=1,i=1,w=1,fb=3");
  testing::expect_golden("dualpipe_4x8.txt", draw_terminal({&dualpipe, 1}, {.width = 80}));
  testing::expect_golden("dualpipe_4x8_one_page.txt",
                         draw_terminal({&dualpipe, 1}, {.width = 80, .one_page = true}));
  const Timeline zbv = timeline_of("zbv", {2, 4});
  testing::expect_golden("zbv_2x4_colour.txt", draw_terminal({&zbv, 1}, {.width = 80, .colour = true}));
  testing::expect_golden("dualpipe_4x8_colour.txt",
                         draw_terminal({&dualpipe, 1}, {.width = 80, .colour = true}));
}

}  // namespace
}  // namespace counterflow
