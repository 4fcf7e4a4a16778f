#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/render.h"
#include "labels.h"
#include "palette.h"
#include "svg_text.h"

namespace counterflow {
namespace {

using svg::escaped;
using svg::hex;
using svg::number;
using svg::text_at;

// Lengths in the picture's unit, a CSS pixel.
constexpr double kLeft = 62;          // of the grid
constexpr double kTop = 66;           // of a panel's first row
constexpr double kRow = 28;           // from a row to the next
constexpr double kBar = 24;           // height of a bar
constexpr double kRight = 14;         // right of all
constexpr double kMarginGap = 10;     // between the columns right of the grid
constexpr double kMarginDigit = 6.4;  // width of a digit there
constexpr double kDigit = 5.8;        // width of a digit in a bar
constexpr double kDigitGap = 3.2;     // beside a bar's label
constexpr double kNarrowest = 600;    // of a grid
constexpr double kWidest = 30000;
constexpr double kMostOfABar = 48;  // a grid's length for each bar of its longest row
constexpr double kTicksApart = 60;
constexpr std::size_t kMostBars = 500000;

/// "f0": the class of a pass's colour.
std::string class_of(PassKind kind, int shade) {
  constexpr std::array kLetters = {'f', 'b', 'i', 'w'};
  return kLetters[static_cast<std::size_t>(kind)] + std::to_string(shade);
}

std::string rectangle(double x, double y, double width, double height) {
  const std::string across = number(width);
  return "M" + number(x) + " " + number(y) + "h" + across + "v" + number(height) + "h-" + across + "z";
}

/// Rounds to what number() writes, so that neighbours share their edge.
double on_grid(double x) {
  return std::round(100 * x) / 100;
}

/// What stands right of a rank's bars.
using Margins = std::array<std::string, 3>;
const Margins kMargins = {"idle", "peak", "bytes"};

Margins margins_of(const RankSummary& rank, std::int64_t unit_ns) {
  return {format_time(rank.idle, unit_ns), std::to_string(rank.peak_activations),
          rank.peak_bytes > 0 ? format_bytes(rank.peak_bytes) : ""};
}

/// The picture's scale and size.
struct Layout {
  Time end = 0;
  std::int64_t unit_ns = 0;
  int shades = 1;
  double grid = kNarrowest;            // width
  std::array<double, 3> margins = {};  // widths

  double x(Time time) const {
    if (end == 0) return kLeft;
    return on_grid(kLeft + grid * (static_cast<double>(time) / static_cast<double>(end)));
  }
  double width() const { return kLeft + grid + margins[0] + margins[1] + margins[2] + kRight; }
};

double label_width(const Pass& pass) {
  return kDigit * static_cast<double>(std::to_string(pass.micro_batch).size()) + kDigitGap;
}

/// The width of the grid: as narrow as the labels let it be.
double grid_width(const std::vector<Timeline>& timelines, Time end) {
  double per_time = 0;
  std::size_t longest_row = 0;
  for (const Timeline& timeline : timelines) {
    for (const RankTimeline& rank : timeline.ranks) {
      longest_row = std::max(longest_row, rank.bars.size());
      for (const Bar& bar : rank.bars) {
        if (bar.duration() <= 0) continue;
        for (const Pass& pass : bar.action.passes())
          per_time = std::max(per_time, label_width(pass) / static_cast<double>(bar.duration()));
      }
    }
  }
  const double most = std::min(kWidest, kMostOfABar * static_cast<double>(longest_row));
  return std::max(kNarrowest, std::min(most, std::ceil(per_time * static_cast<double>(end))));
}

Layout layout_of(const std::vector<Timeline>& timelines) {
  Layout layout;
  for (const Timeline& timeline : timelines) {
    layout.end = std::max(layout.end, timeline.end());
    layout.unit_ns = timeline.unit_ns;
    layout.shades = std::max(layout.shades, Shades(timeline.placement).count());
    for (const RankSummary& rank : summarize(timeline)) {
      const Margins texts = margins_of(rank, timeline.unit_ns);
      for (std::size_t c = 0; c < texts.size(); ++c) {
        if (texts[c].empty()) continue;
        const auto longest = static_cast<double>(std::max(texts[c].size(), kMargins[c].size()));
        layout.margins[c] = std::max(layout.margins[c], kMarginGap + kMarginDigit * longest);
      }
    }
  }
  layout.grid = grid_width(timelines, layout.end);
  return layout;
}

/// The shapes of one timeline, gathered so that all of a colour are one path.
class Panel {
 public:
  Panel(const Timeline& timeline, const Layout& layout, double y)
      : timeline_(timeline),
        layout_(layout),
        y_(y),
        shades_(timeline.placement),
        summaries_(summarize(timeline)) {}

  std::string draw() {
    for (std::size_t rank = 0; rank < timeline_.ranks.size(); ++rank) {
      for (const Bar& bar : timeline_.ranks[rank].bars) add(bar, row(rank));
    }
    std::string svg = head() + axis();
    for (const auto& [name, d] : paths_) {
      svg += "<path class=\"";
      svg += name;
      svg += "\" d=\"";
      svg += d;
      svg += "\"/>\n";
    }
    if (!pairs_.empty()) svg += "<path class=\"pair\" d=\"" + pairs_ + "\"/>\n";
    if (!timeline_.critical_path.empty()) svg += "<path class=\"critical\" d=\"" + critical_path() + "\"/>\n";
    svg += "<g class=\"on-light\">\n" + dark_labels_ + "</g>\n<g class=\"on-dark\">\n" + light_labels_ +
           "</g>\n";
    return svg + margins();
  }

 private:
  double row(std::size_t rank) const { return y_ + kTop + kRow * static_cast<double>(rank); }
  double bottom() const { return row(timeline_.ranks.size()) - (kRow - kBar); }

  void add(const Bar& bar, double y) {
    const double begin = layout_.x(bar.begin);
    const double width = layout_.x(bar.end) - begin;
    const auto passes = bar.action.passes();
    const double height = kBar / static_cast<double>(passes.size());
    for (std::size_t i = 0; i < passes.size(); ++i)
      add(passes[i], begin, y + height * static_cast<double>(i), width, height);
    if (bar.action.is_overlap()) pairs_ += rectangle(begin, y, width, kBar);
  }

  void add(const Pass& pass, double x, double y, double width, double height) {
    const Shade shade = shades_.of(pass);
    paths_[class_of(pass.kind, shade.index)] += rectangle(x, y, width, height);
    if (width < label_width(pass) - 0.5) return;
    const bool light = blend(pass.kind, shade.index, layout_.shades).light_text;
    (light ? light_labels_ : dark_labels_) +=
        text_at(x + width / 2, y + height / 2 + 3.6, std::to_string(pass.micro_batch));
  }

  std::string head() const {
    return text_at(kLeft, y_ + 24, title(timeline_), " class=\"title\"") +
           text_at(kLeft, y_ + 41, describe(timeline_), " class=\"note\"");
  }

  std::string axis() const {
    std::string tracks;
    for (std::size_t rank = 0; rank < timeline_.ranks.size(); ++rank)
      tracks += rectangle(kLeft, row(rank), layout_.grid, kBar);
    std::string labels;
    std::string lines;
    if (layout_.end > 0) {
      const Time step = round_step(1, kTicksApart * static_cast<double>(layout_.end) / layout_.grid);
      for (Time time = 0; time <= layout_.end; time += step) {
        labels += text_at(layout_.x(time), row(0) - 6, format_time(time, layout_.unit_ns));
        lines += "M" + number(layout_.x(time)) + " " + number(row(0) - 3) + "V" + number(bottom() + 3);
      }
    }
    return "<path class=\"idle\" d=\"" + tracks + "\"/>\n<g class=\"tick\">\n" + labels + "</g>\n" +
           "<path class=\"line\" d=\"" + lines + "\"/>\n";
  }

  std::string critical_path() const {
    std::string d;
    for (const BarId& id : timeline_.critical_path) {
      const Bar& bar = timeline_.ranks[id.rank].bars[id.bar];
      d += "M" + number(layout_.x(bar.begin) + 0.5) + " " + number(row(id.rank) + kBar + 1.5) + "H" +
           number(layout_.x(bar.end) - 0.5);
    }
    return d;
  }

  std::string margins() const {
    std::string svg = "<g class=\"margin\">\n";
    for (std::size_t rank = 0; rank < summaries_.size(); ++rank)
      svg += text_at(kLeft - 8, row(rank) + kBar / 2 + 4, "rank " + std::to_string(rank));
    double x = kLeft + layout_.grid;
    for (std::size_t c = 0; c < layout_.margins.size(); ++c) {
      if (layout_.margins[c] == 0) continue;
      x += layout_.margins[c];
      svg += text_at(x, row(0) - 6, kMargins[c]);
      for (std::size_t rank = 0; rank < summaries_.size(); ++rank)
        svg += text_at(x, row(rank) + kBar / 2 + 4, margins_of(summaries_[rank], layout_.unit_ns)[c]);
    }
    return svg + "</g>\n";
  }

  const Timeline& timeline_;
  const Layout& layout_;
  double y_;
  Shades shades_;
  std::vector<RankSummary> summaries_;
  std::map<std::string, std::string> paths_;  // class -> d
  std::string pairs_;
  std::string dark_labels_;
  std::string light_labels_;
};

std::string style(int shades) {
  std::string css =
      ":root{color-scheme:light dark}"
      "text{font:11px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}"
      ".page{fill:#fff}.idle{fill:#e9ecf1}.line{stroke:#1f2328;stroke-opacity:.13}"
      ".title{font-size:16px;font-weight:600}.note,.tick text,.margin text{fill:#59636e}"
      ".tick text{text-anchor:middle;font-size:10px}.margin text{text-anchor:end}"
      ".on-light text,.on-dark text{text-anchor:middle;font-size:10.2px;fill:#000}.on-dark text{fill:#fff}"
      ".pair{fill:none;stroke:#1f2328;stroke-width:1.1}"
      ".critical{stroke:#1f2328;stroke-width:2}";
  std::string bars;
  for (std::size_t k = 0; k < kPalette.size(); ++k) {
    for (int shade = 0; shade < shades; ++shade) {
      const auto kind = static_cast<PassKind>(k);
      const std::string name = class_of(kind, shade);
      css += "." + name + "{fill:" + hex(blend(kind, shade, shades).rgb) + "}";
      bars += (bars.empty() ? "." : ",.") + name;
    }
  }
  css += bars + "{stroke:#fff;stroke-width:.8}";
  return "<style>" + css +
         "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.idle{fill:#222a35}"
         ".line{stroke:#e6edf3}.note,.tick text,.margin text{fill:#9198a1}.pair,.critical{stroke:#e6edf3}" +
         bars + "{stroke:#0d1117}}</style>\n";
}

/// Lines of swatches and their names.
class Legend {
 public:
  Legend(double y, const Layout& layout) : y_(y), layout_(layout) {}

  void add_kinds(const Kinds& kinds) {
    for (std::size_t k = 0; k < kinds.passes.size(); ++k) {
      if (kinds.passes[k]) add_kind(static_cast<PassKind>(k));
    }
    if (kinds.overlap) {
      begin("overlapped pair");
      svg_ += path(class_of(PassKind::kForward, 0), rectangle(x_, y_, kSwatch, kHeight / 2)) +
              path(class_of(PassKind::kBackward, 0), rectangle(x_, y_ + kHeight / 2, kSwatch, kHeight / 2)) +
              path("pair", rectangle(x_, y_, kSwatch, kHeight));
      end("overlapped pair");
    }
    begin("idle");
    svg_ += path("idle", rectangle(x_, y_, kSwatch, kHeight));
    end("idle");
    begin("critical path");
    svg_ += path("critical", "M" + number(x_) + " " + number(y_ + kHeight / 2) + "h" + number(kSwatch));
    end("critical path");
    new_line();
  }

  /// What the shades of colour say, one at a time.
  void add_shade(int shade, const std::string& meaning) {
    begin(meaning);
    svg_ += path(class_of(PassKind::kForward, shade), rectangle(x_, y_, kSwatch, kHeight));
    end(meaning);
  }

  void new_line() {
    if (x_ == kLeft) return;
    x_ = kLeft;
    y_ += 21;
  }

  double bottom() const { return y_; }
  const std::string& svg() const { return svg_; }

 private:
  static constexpr double kSwatch = 20;
  static constexpr double kHeight = 14;
  static constexpr double kLetter = 6;

  static std::string path(const std::string& name, const std::string& d) {
    return "<path class=\"" + name + "\" d=\"" + d + "\"/>\n";
  }
  static double width_of(const std::string& name) {
    return kSwatch + 24 + kLetter * static_cast<double>(name.size());
  }

  void add_kind(PassKind kind) {
    const std::string name = std::string(1, letter(kind)) + " " + name_of(kind);
    begin(name);
    const double width = kSwatch / layout_.shades;
    for (int shade = 0; shade < layout_.shades; ++shade)
      svg_ += path(class_of(kind, shade), rectangle(x_ + width * shade, y_, width, kHeight));
    end(name);
  }

  void begin(const std::string& name) {
    if (x_ + width_of(name) > layout_.width()) new_line();
  }
  void end(const std::string& name) {
    svg_ += text_at(x_ + kSwatch + 6, y_ + 11, name);
    x_ += width_of(name);
  }

  double x_ = kLeft;
  double y_;
  const Layout& layout_;
  std::string svg_;
};

/// The legend below the panels.
Legend legend_of(const std::vector<Timeline>& timelines, const Layout& layout, double y) {
  Legend legend(y, layout);
  legend.add_kinds(kinds_of(timelines));
  std::set<std::pair<std::string, int>> seen;
  const auto add_once = [&](const std::string& name, int shade) {
    const bool is_new = seen.emplace(name, shade).second;
    if (is_new) legend.add_shade(shade, name);
    return is_new;
  };
  for (const Timeline& timeline : timelines) {
    const std::vector<std::string> directions = describe_directions(timeline.placement);
    for (std::size_t shade = 0; shade < directions.size(); ++shade) {
      if (add_once(directions[shade], static_cast<int>(shade))) legend.new_line();
    }
    const int shades = Shades(timeline.placement).count();
    if (!directions.empty() || shades < 2) continue;
    add_once("first stage of each rank", 0);
    if (add_once("last stage of each rank", shades - 1)) legend.new_line();
  }
  return legend;
}

void check_size(std::span<const Timeline> timelines) {
  std::size_t bars = 0;
  for (const Timeline& timeline : timelines) {
    for (const RankTimeline& rank : timeline.ranks) bars += rank.bars.size();
  }
  if (bars <= kMostBars) return;
  throw InvalidConfig("SVG: expected at most " + std::to_string(kMostBars) + " actions, found " +
                      std::to_string(bars) + "; use .html or .pftrace");
}

}  // namespace

std::string draw_svg(std::span<const Timeline> timelines) {
  check_size(timelines);
  const std::vector<Timeline> same = in_one_unit(timelines);
  const Layout layout = layout_of(same);
  std::string shapes;
  double y = 0;
  for (const Timeline& timeline : same) {
    shapes += Panel(timeline, layout, y).draw();
    y += kTop + kRow * static_cast<double>(timeline.ranks.size());
  }
  const Legend legend = legend_of(same, layout, y + 12);
  const std::string size = number(layout.width()) + "\" height=\"" + number(legend.bottom() + 8);
  std::string name = "A pipeline schedule";
  for (std::size_t t = 0; t < same.size(); ++t)
    name += (t == 0 ? ": " : "; ") + title(same[t]) + ", " + describe(same[t]);
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + size + "\" viewBox=\"0 0 " +
         number(layout.width()) + " " + number(legend.bottom() + 8) + "\" role=\"img\">\n<title>" +
         escaped(name) + "</title>\n" + style(layout.shades) +
         "<rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n" + shapes + legend.svg() +
         "</svg>\n";
}

}  // namespace counterflow
