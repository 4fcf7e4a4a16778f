#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "counterflow/render.h"
#include "palette.h"
#include "svg_text.h"

namespace counterflow {
namespace {

using svg::escaped;
using svg::hex;
using svg::number;
using svg::text_at;

// Lengths in CSS pixels.
constexpr double kWidth = 640;
constexpr double kHeight = 400;
constexpr double kLeft = 72;
constexpr double kRight = 20;
constexpr double kTop = 48;
constexpr double kBottom = 84;
constexpr double kRadius = 4.5;

/// One axis: values from `begin` to `end` on pixels from `from` to `to`, with a tick every `step`.
struct Axis {
  double begin = 0;
  double end = 1;
  double step = 1;
  double from = 0;
  double to = 0;

  double at(double value) const { return from + (value - begin) / (end - begin) * (to - from); }
};

/// 1, 2 or 5 times a power of ten, at least `least`.
double round_step(double least) {
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least) return factor * power;
  }
  return 10 * power;
}

Axis axis_of(double least, double most, double from, double to) {
  constexpr double kTicks = 7;
  const double range = most > least ? most - least : std::max(1.0, std::abs(most));
  Axis axis;
  axis.step = round_step(range / kTicks);
  axis.begin = axis.step * std::floor((least - 0.1 * range) / axis.step);
  axis.end = axis.step * std::ceil((most + 0.1 * range) / axis.step);
  axis.begin = least >= 0 ? std::max(0.0, axis.begin) : axis.begin;
  axis.from = from;
  axis.to = to;
  return axis;
}

std::string line(double x1, double y1, double x2, double y2, const char* name) {
  return "<path class=\"" + std::string(name) + "\" d=\"M" + number(x1) + " " + number(y1) + "L" +
         number(x2) + " " + number(y2) + "\"/>\n";
}

std::string ticks(const Axis& x, const Axis& y) {
  std::string shapes;
  for (int i = 0; x.begin + i * x.step <= x.end + x.step / 2; ++i) {
    const double value = x.begin + i * x.step;
    shapes += line(x.at(value), y.from, x.at(value), y.to, "line");
    shapes += text_at(x.at(value), y.from + 16, number(value), " class=\"x\"");
  }
  for (int i = 0; y.begin + i * y.step <= y.end + y.step / 2; ++i) {
    const double value = y.begin + i * y.step;
    shapes += line(x.from, y.at(value), x.to, y.at(value), "line");
    shapes += text_at(x.from - 8, y.at(value) + 4, number(value), " class=\"y\"");
  }
  return shapes;
}

/// The series in the order in which they first appear; each has a colour.
std::vector<std::string> series_of(const std::vector<FrontierMark>& marks) {
  std::vector<std::string> series;
  for (const FrontierMark& mark : marks) {
    if (std::find(series.begin(), series.end(), mark.series) == series.end()) series.push_back(mark.series);
  }
  return series;
}

std::string circle(double x, double y, std::size_t series, const std::string& title) {
  return "<circle class=\"s" + std::to_string(series % kPalette.size()) + "\" cx=\"" + number(x) +
         "\" cy=\"" + number(y) + "\" r=\"" + number(kRadius) + "\"><title>" + escaped(title) +
         "</title></circle>\n";
}

std::string style() {
  std::string css =
      ":root{color-scheme:light dark}"
      "text{font:11px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}"
      ".page{fill:#fff}.line{stroke:#1f2328;stroke-opacity:.13}.title{font-size:14px;font-weight:600}"
      ".x{text-anchor:middle}.y{text-anchor:end}.steps{fill:none;stroke:#59636e;stroke-width:1.2}"
      ".gap{stroke:#59636e;stroke-width:1.2;stroke-dasharray:2 2}.least{stroke:#59636e;stroke-width:1.6}"
      "circle{stroke:#fff;stroke-width:.8}";
  for (std::size_t kind = 0; kind < kPalette.size(); ++kind)
    css += ".s" + std::to_string(kind) + "{fill:" + hex(kPalette[kind][1].rgb) + "}";
  return "<style>" + css +
         "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.line{stroke:#e6edf3}"
         ".steps,.gap,.least{stroke:#9198a1}circle{stroke:#e6edf3}}</style>\n";
}

std::string steps(const std::vector<FrontierMark>& marks, const Axis& x, const Axis& y) {
  std::string d = "M" + number(x.at(marks[0].memory)) + " " + number(y.at(marks[0].makespan));
  for (const FrontierMark& mark : marks)
    d += "H" + number(x.at(mark.memory)) + "V" + number(y.at(mark.makespan));
  return "<path class=\"steps\" d=\"" + d + "H" + number(x.to) + "\"/>\n";
}

std::string points(const std::vector<FrontierMark>& marks, const std::vector<std::string>& series,
                   const Axis& x, const Axis& y) {
  constexpr double kTick = 4;
  std::string shapes;
  for (const FrontierMark& mark : marks) {
    const double at = x.at(mark.memory);
    const double least = y.at(mark.lower_bound);
    shapes += line(at, y.at(mark.makespan), at, least, "gap");
    shapes += line(at - kTick, least, at + kTick, least, "least");
    const auto index =
        static_cast<std::size_t>(std::find(series.begin(), series.end(), mark.series) - series.begin());
    shapes += circle(at, y.at(mark.makespan), index,
                     mark.series + ": " + number(mark.makespan) + ", at least " + number(mark.lower_bound));
  }
  return shapes;
}

std::string legend(const std::vector<std::string>& series, double y) {
  constexpr double kLetter = 6.2;
  std::string shapes;
  double x = kLeft;
  for (std::size_t i = 0; i < series.size(); ++i) {
    shapes += circle(x, y - 4, i, series[i]);
    shapes += text_at(x + 10, y, series[i]);
    x += 34 + kLetter * static_cast<double>(series[i].size());
  }
  shapes += line(x, y - 4, x + 14, y - 4, "least") + text_at(x + 20, y, "no schedule is below");
  return shapes;
}

}  // namespace

std::string draw_frontier(std::span<const FrontierMark> marks, const std::string& title,
                          const std::string& memory_unit) {
  std::vector<FrontierMark> sorted(marks.begin(), marks.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const FrontierMark& a, const FrontierMark& b) { return a.memory < b.memory; });
  std::string shapes;
  if (!sorted.empty()) {
    double least = sorted[0].lower_bound;
    double most = sorted[0].makespan;
    for (const FrontierMark& mark : sorted) {
      least = std::min(least, mark.lower_bound);
      most = std::max(most, mark.makespan);
    }
    const Axis x = axis_of(sorted.front().memory, sorted.back().memory, kLeft, kWidth - kRight);
    const Axis y = axis_of(least, most, kHeight - kBottom, kTop);
    const std::vector<std::string> series = series_of(sorted);
    shapes = ticks(x, y) + steps(sorted, x, y) + points(sorted, series, x, y) + legend(series, kHeight - 14);
  }
  const std::string size = number(kWidth) + "\" height=\"" + number(kHeight);
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + size + "\" viewBox=\"0 0 " + number(kWidth) +
         " " + number(kHeight) + "\" role=\"img\">\n<title>" + escaped(title) + "</title>\n" + style() +
         "<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n" +
         text_at(kLeft, 24, title, " class=\"title\"") +
         text_at((kLeft + kWidth - kRight) / 2, kHeight - kBottom + 36, memory_unit, " class=\"x\"") +
         text_at(kLeft - 8, kTop - 8, "makespan", " class=\"y\"") + shapes + "</svg>\n";
}

}  // namespace counterflow
