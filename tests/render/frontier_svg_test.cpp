#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "counterflow/render.h"

namespace counterflow {
namespace {

int count(const std::string& text, const std::string& what) {
  int found = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

/// The value of an attribute of the first element that begins with `element`.
double attribute(const std::string& svg, const std::string& element, const std::string& name) {
  const std::size_t begin = svg.find("\"", svg.find(" " + name + "=", svg.find(element)));
  return std::stod(svg.substr(begin + 1));
}

TEST(FrontierSvgTest, HasAMarkForEachScheduleAndANameForEachPlacement) {
  const std::vector<FrontierMark> marks = {{4, 60, 55, "v"}, {2, 100, 90, "v"}, {9, 50, 50, "one"}};
  const std::string svg = draw_frontier(marks, "4 ranks", "peak <activations>");
  EXPECT_EQ(count(svg, "<circle"), 3 + 2);  // with the legend's
  EXPECT_EQ(count(svg, "class=\"gap\""), 3);
  EXPECT_NE(svg.find("<title>v: 60, at least 55</title>"), std::string::npos);
  EXPECT_NE(svg.find("peak &lt;activations&gt;"), std::string::npos);
  EXPECT_EQ(svg.rfind("</svg>\n"), svg.size() - 7);
}

TEST(FrontierSvgTest, MoreMemoryIsFurtherRightAndLongerIsHigher) {
  const std::vector<FrontierMark> marks = {{2, 100, 90, "v"}, {9, 50, 50, "one"}};
  const std::string svg = draw_frontier(marks, "", "");
  EXPECT_LT(attribute(svg, "<circle class=\"s0\"", "cx"), attribute(svg, "<circle class=\"s1\"", "cx"));
  EXPECT_LT(attribute(svg, "<circle class=\"s0\"", "cy"), attribute(svg, "<circle class=\"s1\"", "cy"));
}

TEST(FrontierSvgTest, DrawsNoneAndOne) {
  EXPECT_EQ(count(draw_frontier({}, "nothing", "bytes"), "<circle"), 0);
  const std::vector<FrontierMark> one = {{0, 0, 0, "v"}};
  const std::string svg = draw_frontier(one, "one", "bytes");
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

}  // namespace
}  // namespace counterflow
