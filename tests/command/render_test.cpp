// The verb render.
#include "counterflow/render.h"

#include <gtest/gtest.h>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "run_command.h"

namespace counterflow::testing {
namespace {

const CostModel kCosts(UniformCost{.f = 1, .i = 1, .w = 1, .fb = 3}, 1);

std::string dualpipe() {
  return format(generate("dualpipe", {4, 8}));
}

Timeline timeline_of(const Schedule& schedule) {
  return make_timeline(schedule, kCosts, simulate(schedule, kCosts));
}

std::vector<std::string> render(std::vector<std::string> more) {
  more.insert(more.begin(), {"render", "-", "--cost", "f=1,i=1,w=1,fb=3", "--p2p", "1"});
  return more;
}

TEST(RenderCommandTest, DrawsInTheTerminalWithoutColourForAPipe) {
  const CommandResult result = run_command(render({"--width", "100"}), dualpipe());
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const Timeline timeline = timeline_of(generate("dualpipe", {4, 8}));
  EXPECT_EQ(result.out, draw_terminal({&timeline, 1}, {.width = 100}));
  const CommandResult one_page = run_command(render({"--width", "100", "--one-page"}), dualpipe());
  EXPECT_EQ(one_page.out, draw_terminal({&timeline, 1}, {.width = 100, .one_page = true}));
}

TEST(RenderCommandTest, WidthIsThatOfColumnsWhereThereIsNoTerminal) {
  const TemporaryFolder folder;
  folder.write("dualpipe.csv", dualpipe());
  const CommandResult narrow = run_shell("COLUMNS=66 counterflow render dualpipe.csv", folder.path());
  const CommandResult wide = run_shell("COLUMNS=300 counterflow render dualpipe.csv", folder.path());
  EXPECT_EQ(narrow.status, 0) << narrow.err;
  EXPECT_LT(wide.out.size(), narrow.out.size());
  const CommandResult nonsense = run_shell("COLUMNS=x counterflow render dualpipe.csv", folder.path());
  EXPECT_EQ(nonsense.out, run_shell("COLUMNS=80 counterflow render dualpipe.csv", folder.path()).out);
}

TEST(RenderCommandTest, KindFollowsTheEnding) {
  const TemporaryFolder folder;
  const Timeline timeline = timeline_of(generate("dualpipe", {4, 8}));
  const std::string svg = folder.path() + "/a.svg";
  EXPECT_EQ(run_command(render({"-o", svg}), dualpipe()).status, 0);
  EXPECT_EQ(read_whole(svg), draw_svg({&timeline, 1}));
  const std::string chrome = folder.path() + "/a.json";
  EXPECT_EQ(run_command(render({"-o", chrome}), dualpipe()).status, 0);
  EXPECT_EQ(read_whole(chrome), chrome_trace({&timeline, 1}));
  const std::string perfetto = folder.path() + "/a.pftrace";
  EXPECT_EQ(run_command(render({"-o", perfetto}), dualpipe()).status, 0);
  EXPECT_EQ(read_whole(perfetto), perfetto_trace({&timeline, 1}));
  const std::string page = folder.path() + "/a.html";
  EXPECT_EQ(run_command(render({"-o", page}), dualpipe()).status, 0);
  EXPECT_EQ(read_whole(page), draw_html({&timeline, 1}));
  const std::string text = folder.path() + "/a.txt";
  EXPECT_EQ(run_command(render({"-o", text, "--width", "80"}), dualpipe()).status, 0);
  EXPECT_EQ(read_whole(text), draw_terminal({&timeline, 1}));
}

TEST(RenderCommandTest, ComparesWithASecondSchedule) {
  const TemporaryFolder folder;
  const std::string other = folder.write("other.csv", format(generate("1f1b", {4, 8})));
  const CommandResult result = run_command(render({"--compare", other, "--width", "100"}), dualpipe());
  EXPECT_EQ(result.status, 0) << result.err;
  const std::vector<Timeline> both = {timeline_of(generate("dualpipe", {4, 8})),
                                      timeline_of(generate("1f1b", {4, 8}))};
  EXPECT_EQ(result.out, draw_terminal(both, {.width = 100}));
}

TEST(RenderCommandTest, OpenTellsThePathWhereThereIsNoDesktop) {
  const TemporaryFolder folder;
  folder.write("dualpipe.csv", dualpipe());
  const CommandResult result = run_shell(
      "unset DISPLAY WAYLAND_DISPLAY; counterflow render dualpipe.csv -o a.svg --open", folder.path());
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out.substr(result.out.rfind('/')), "/a.svg\n");
  EXPECT_EQ(result.out[0], '/');
}

TEST(RenderCommandTest, OpenCallsTheDesktopsOpener) {
  const TemporaryFolder folder;
  folder.write("dualpipe.csv", dualpipe());
  folder.write("xdg-open", "#!/bin/sh\necho \"$1\" >opened\n");
  const CommandResult result = run_shell(
      "chmod +x xdg-open; DISPLAY=:0 PATH=\"$PWD:$PATH\" counterflow render dualpipe.csv -o a.svg --open",
      folder.path());
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(read_whole(folder.path() + "/opened"), "a.svg\n");
}

TEST(RenderCommandTest, RefusesWhatItCannotDraw) {
  const CommandResult ending = run_command(render({"-o", "a.pdf"}), dualpipe());
  EXPECT_EQ(ending.status, 2);
  EXPECT_NE(ending.err.find("expected - (the terminal) or a file that ends in"), std::string::npos);
  EXPECT_NE(ending.err.find("found \"a.pdf\""), std::string::npos);
  const CommandResult open = run_command(render({"--open"}), dualpipe());
  EXPECT_EQ(open.status, 2);
  EXPECT_NE(open.err.find("--open: expected --output with a file to open"), std::string::npos);
  const CommandResult deadlock = run_command(render({}), "1F0,0F0,0B0,1B0\n");
  EXPECT_EQ(deadlock.status, 2);
  EXPECT_NE(deadlock.err.find("counterflow verify"), std::string::npos) << deadlock.err;
}

}  // namespace
}  // namespace counterflow::testing
