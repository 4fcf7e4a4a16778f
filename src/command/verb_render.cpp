// The verb render: schedules as pictures.
#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checks.h"
#include "complete_schedule.h"
#include "cost_options.h"
#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/idle.h"
#include "counterflow/recording.h"
#include "counterflow/render.h"
#include "counterflow/simulate.h"
#include "counterflow/timeline.h"
#include "open_file.h"
#include "plan.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

struct Options {
  std::string file;
  std::string compare;
  std::string recording;
  std::string output = "-";
  CostOptions costs;
  int width = 0;
  bool one_page = false;
  bool open = false;
};

enum class Kind { kTerminal, kSvg, kHtml, kChromeTrace, kPerfettoTrace };

struct Ending {
  std::string_view text;
  Kind kind;
};

constexpr std::array kEndings = {Ending{".txt", Kind::kTerminal}, Ending{".svg", Kind::kSvg},
                                 Ending{".html", Kind::kHtml}, Ending{".json", Kind::kChromeTrace},
                                 Ending{".pftrace", Kind::kPerfettoTrace}};

Kind kind_of(const std::string& output) {
  if (output == "-") return Kind::kTerminal;
  std::string endings;
  for (const Ending& one : kEndings) {
    if (output.ends_with(one.text)) return one.kind;
    endings += (endings.empty() ? "" : ", ") + std::string(one.text);
  }
  throw InvalidConfig("--output: expected - (the terminal) or a file that ends in " + endings + ", found \"" +
                      output + "\"");
}

Timeline read_timeline(const std::string& file, const CostModel& costs) {
  const Schedule schedule = read_complete_schedule(file);
  return make_timeline(schedule, costs, simulate(schedule, costs));
}

/// The plan, and below it what a run made of it.
std::vector<Timeline> plan_and_run(const Options& options) {
  const Schedule schedule = read_complete_schedule(options.file);
  Timeline run = read_recording(options.recording);
  run.idle = split_idle(run, schedule);
  Timeline plan = plan_of(run, schedule, options.costs);
  const std::string name = schedule.name.empty() ? "schedule" : schedule.name;
  plan.name = name + ", plan";
  run.name = name + ", run";
  return {std::move(plan), std::move(run)};
}

std::vector<Timeline> read_timelines(const Options& options) {
  if (!options.recording.empty()) return plan_and_run(options);
  const CostModel costs = options.costs.read();
  std::vector<Timeline> timelines{read_timeline(options.file, costs)};
  if (!options.compare.empty()) timelines.push_back(read_timeline(options.compare, costs));
  return timelines;
}

std::string draw(const std::vector<Timeline>& timelines, Kind kind, const Options& options) {
  switch (kind) {
    case Kind::kTerminal:
      return draw_terminal(timelines, {.width = options.width > 0 ? options.width : terminal_width(),
                                       .colour = options.output == "-" && wants_colour(),
                                       .one_page = options.one_page});
    case Kind::kSvg:
      return draw_svg(timelines);
    case Kind::kHtml:
      return draw_html(timelines);
    case Kind::kChromeTrace:
      return chrome_trace(timelines);
    case Kind::kPerfettoTrace:
      return perfetto_trace(timelines);
  }
  return "";
}

ExitStatus run(const Options& options) {
  const Kind kind = kind_of(options.output);
  if (options.open && options.output == "-")
    throw InvalidConfig("--open: expected --output with a file to open, found the terminal");
  {
    const Progress progress("drawing " + options.file);
    write_file(options.output, draw(read_timelines(options), kind, options));
  }
  if (options.open && !open_file(options.output))
    write_file("-", std::filesystem::absolute(options.output).string() + "\n");
  return kOk;
}

}  // namespace

Verb render_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("render", "Draws a schedule under given costs");
  verb->add_option("FILE", options->file, "A schedule; - is standard input")->required();
  verb->add_option("-o,--output", options->output,
                   "What to write, its kind by its ending: .svg, .html, .json (Chrome's trace), .pftrace "
                   "(Perfetto's) or .txt; - is the terminal (-)")
      ->type_name("FILE");
  CLI::Option* compare = verb->add_option("--compare", options->compare,
                                          "A second schedule, drawn beside the first at one scale");
  compare->type_name("FILE");
  verb->add_option("--recording", options->recording,
                   "A run of the schedule, drawn beside the plan (costs are in microseconds; without any the "
                   "plan is under the run's own mean times)")
      ->type_name("FILE")
      ->excludes(compare);
  options->costs.add_to(*verb);
  verb->add_option("--width", options->width, "Columns of text (the terminal's)")
      ->type_name("COLUMNS")
      ->check(whole_number(20, 100000));
  verb->add_flag("--one-page", options->one_page,
                 "Squeezes text into one page instead of cutting it into several");
  verb->add_flag("--open", options->open,
                 "Opens the picture, or prints where it is where there is no desktop");
  verb->footer("\nExample:\n  counterflow render dualpipe.csv --cost f=1,i=1,w=1,fb=3 -o dualpipe.svg");
  return {verb, [options] { return run(*options); }};
}

}  // namespace counterflow::command
