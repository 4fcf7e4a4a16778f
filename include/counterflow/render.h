// Timelines as pictures and traces. Every view takes one timeline or several, which it draws at one scale:
// two schedules, or a plan and the real run. Their units of time are made the same first (an abstract unit
// counts as a microsecond where the other has a real one).
//
// All functions may be called from any thread.
#pragma once

#include <span>
#include <string>

#include "counterflow/timeline.h"

namespace counterflow {

/// How the rank x time grid is laid out as text.
struct TerminalOptions {
  int width = 80;         ///< columns of a line: figures give way for a grid of 40, which keeps 12 at least
  bool colour = false;    ///< ANSI colours and Unicode; otherwise plain ASCII
  bool one_page = false;  ///< squeezed into one page, with labels where they fit; otherwise cut into pages
};

/// The grid as DeepSeek's and PyTorch's figures show it: a row a rank, time to the right, a micro-batch's
/// number at the begin of its action, `.` where a rank is idle. Plain text names the pass too: F5, B5, I5,
/// W5, F6+B0 (an overlapped pair), with the stage before it where a rank has several (2F5). An action that
/// goes on from the page before begins with <, and one whose label is on the next page is filled with >.
std::string draw_terminal(std::span<const Timeline> timelines, const TerminalOptions& options = {});

/// The grid as a picture for papers and READMEs: a row a rank, an overlapped pair as one box with its forward
/// above its backward, idle time and peak activations in the margin, the critical path underlined, and a
/// legend. Follows the reader's light or dark colour scheme. Throws InvalidConfig above 500000 bars: no
/// viewer would open that.
std::string draw_svg(std::span<const Timeline> timelines);

/// One HTML file without anything from the network: zoom, pan, search, what an action waited for and what
/// waited for it, the chain that set its time, the critical path, activations under each rank, the idle time
/// of real runs by its kinds; several timelines one at a time or together. Throws InvalidConfig above 4
/// million bars.
std::string draw_html(std::span<const Timeline> timelines);

/// Traces for chrome://tracing, https://ui.perfetto.dev and whatever else reads them: a process a timeline,
/// in it a track a rank and a track a link, arrows from senders to receivers, counters of activations. A
/// track has no room for messages that overlap: a link gets as many tracks of its name as it takes. An
/// abstract unit of time is shown as a microsecond.
std::string chrome_trace(std::span<const Timeline> timelines);    ///< JSON, 100 bytes an event
std::string perfetto_trace(std::span<const Timeline> timelines);  ///< protobuf, 40 bytes an event

/// A schedule in a plot of makespan against memory.
struct FrontierMark {
  double memory = 0;
  double makespan = 0;
  double lower_bound = 0;  ///< of every schedule with so much memory
  std::string series;      ///< marks of the same series look alike: the placement
};

/// Makespan against memory as a picture: a mark a schedule, the steps between them, and below each mark how
/// far down a better schedule could be. Axes begin near the smallest value, not at 0.
std::string draw_frontier(std::span<const FrontierMark> marks, const std::string& title,
                          const std::string& memory_unit);

}  // namespace counterflow
