#include "counterflow/report.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "counterflow/error.h"
#include "counterflow/format.h"
#include "file.h"
#include "text.h"

namespace counterflow {
namespace {

using nlohmann::ordered_json;

std::string percent(double ratio) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", 100 * ratio);
  return text.data();
}

std::string plural(std::int64_t count, const std::string& noun, const std::string& ending = "s") {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : ending);
}

std::int64_t num_messages(const Program& program) {
  std::int64_t messages = 0;
  for (const Channel& channel : program.channels) messages += channel.messages;
  return messages;
}

/// "dualpipe, 8 ranks x 20 micro-batches: makespan 66, bubble 6 (9.1 %), peak 9 activations".
std::string summary(const FileReport& report) {
  const Schedule& schedule = report.schedule;
  std::string text = (schedule.name.empty() ? std::string() : printable(schedule.name) + ", ") +
                     plural(schedule.num_ranks(), "rank") + " x " +
                     plural(schedule.num_micro_batches(), "micro-batch", "es");
  if (!report.judgement.simulation) return text;
  const Simulation& run = *report.judgement.simulation;
  return text + ": makespan " + std::to_string(run.makespan) + ", bubble " + std::to_string(run.bubble) +
         " (" + percent(run.bubble_ratio()) + "), peak " + plural(run.peak_activations(), "activation") +
         (report.program ? ", lowered: " + plural(num_messages(*report.program), "message") : "");
}

std::int64_t num_errors(const FileReport& report) {
  return report.judgement.verdict.num_diagnostics + report.program_verdict.num_diagnostics;
}

/// What was found, of the schedule first.
std::vector<Diagnostic> all_diagnostics(const FileReport& report) {
  std::vector<Diagnostic> all = report.judgement.verdict.diagnostics;
  const auto& more = report.program_verdict.diagnostics;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string draw_all(const FileReport& report, std::size_t max_width = std::string::npos) {
  std::string text;
  if (!report.judgement.verdict.ok()) text += draw(report.schedule, report.judgement.verdict, max_width);
  if (!report.program_verdict.ok())
    text += draw(*report.program, report.schedule, report.program_verdict, max_width);
  return text;
}

ordered_json to_json(const Diagnostic& diagnostic) {
  ordered_json json{{"rule", rule_name(diagnostic.rule)}};
  if (diagnostic.rank >= 0) json["rank"] = diagnostic.rank;
  if (diagnostic.step >= 0) json["step"] = diagnostic.step;
  if (diagnostic.action) json["action"] = to_string(*diagnostic.action);
  json["message"] = diagnostic.message;
  return json;
}

ordered_json to_json(const FileReport& report) {
  ordered_json json{{"file", report.file}, {"ok", report.ok()}};
  if (report.error) {
    json["error"] = *report.error;
    return json;
  }
  const auto& [verdict, simulation] = report.judgement;
  json["name"] = report.schedule.name;
  json["num_diagnostics"] = verdict.num_diagnostics;
  json["diagnostics"] = ordered_json::array();
  for (const Diagnostic& diagnostic : verdict.diagnostics) json["diagnostics"].push_back(to_json(diagnostic));
  if (simulation) {
    json["makespan"] = simulation->makespan;
    json["bubble"] = simulation->bubble;
    json["bubble_ratio"] = simulation->bubble_ratio();
    json["peak_activations"] = simulation->peak_activations();
    json["receive_buffers"] = simulation->receive_buffers();
  }
  if (report.program) {
    ordered_json program{{"messages", num_messages(*report.program)},
                         {"num_diagnostics", report.program_verdict.num_diagnostics},
                         {"diagnostics", ordered_json::array()}};
    for (const Diagnostic& diagnostic : report.program_verdict.diagnostics)
      program["diagnostics"].push_back(to_json(diagnostic));
    json["program"] = std::move(program);
  }
  return json;
}

/// Escapes a text for XML, and leaves out what XML cannot hold.
std::string xml(std::string_view text) {
  std::string escaped;
  for (const char c : valid_utf8(text)) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') escaped += c;
    }
  }
  return escaped;
}

std::string junit_case(const FileReport& report) {
  const std::string open = "    <testcase classname=\"counterflow.verify\" name=\"" + xml(report.file) + "\"";
  if (report.error) {
    return open + ">\n      <error message=\"" + xml(*report.error) + "\"/>\n    </testcase>\n";
  }
  if (report.ok()) return open + "/>\n";
  const Diagnostic first = all_diagnostics(report).front();
  std::string message = first.message;
  if (num_errors(report) > 1) message += " (and " + std::to_string(num_errors(report) - 1) + " more)";
  return open + ">\n      <failure type=\"" + std::string(rule_name(first.rule)) + "\" message=\"" +
         xml(message) + "\">" + xml(draw_all(report)) + "</failure>\n    </testcase>\n";
}

/// Escapes what a workflow command would take for its own: in its message, and more in its properties.
std::string workflow(std::string_view text, bool is_property) {
  std::string escaped;
  for (const char c : text) {
    if (c == '%' || c == '\r' || c == '\n' || (is_property && (c == ':' || c == ','))) {
      std::array<char, 8> code{};
      std::snprintf(code.data(), code.size(), "%%%02X", static_cast<unsigned>(c));
      escaped += code.data();
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string annotation(const FileReport& report, std::size_t line, std::size_t column, std::string_view title,
                       const std::string& message) {
  std::string text = "::error file=" + workflow(report.file, true);
  if (line > 0) text += ",line=" + std::to_string(line);
  if (column > 0) text += ",col=" + std::to_string(column);
  return text + ",title=counterflow " + workflow(title, true) + "::" + workflow(message, false) + "\n";
}

/// The lines of a schedule's file that hold the ranks' actions: those that are neither header nor comment.
std::vector<std::size_t> find_rank_lines(std::string_view text, std::size_t num_ranks) {
  std::vector<std::size_t> lines;
  for (std::size_t line = 1; lines.size() < num_ranks; ++line) {
    if (!text.starts_with('#')) lines.push_back(line);
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

/// Where the schedule can run and the file has its transfers too.
void judge_program(FileReport& report, std::string_view text, const VerifyOptions& options) {
  if (!report.judgement.simulation) return;
  report.program = parse_program(text, report.schedule, report.file);
  if (!report.program) return;
  for (Channel& channel : report.program->channels)
    channel.receive_buffers =
        std::min(channel.receive_buffers, options.receive_buffers.value_or(channel.receive_buffers));
  report.program_verdict = verify(*report.program, report.schedule);
}

}  // namespace

FileReport judge_file(const std::string& path, const VerifyOptions& options, const CostModel& costs,
                      const Limits& limits) {
  FileReport report;
  report.file = path;
  try {
    const std::string text = read_schedule_text(path);
    report.schedule = parse_file(text, path);
    report.rank_lines = find_rank_lines(text, report.schedule.actions.size());
    report.judgement = judge(report.schedule, options, costs, limits);
    judge_program(report, text, options);
  } catch (const ParseError& error) {
    report.error = error.what();
    report.error_line = error.line();
    report.error_column = error.column();
  } catch (const Error& error) {
    const std::string what = error.what();
    report.error = what.find(path) == std::string::npos ? path + ": " + what : what;
  }
  return report;
}

std::string report_text(std::span<const FileReport> files, bool colour, std::size_t max_width) {
  const auto coloured = [&](const char* code, const std::string& word) {
    return colour ? code + word + "\033[0m" : word;
  };
  constexpr const char* kRed = "\033[31m";
  constexpr const char* kGreen = "\033[32m";
  std::string text;
  for (const FileReport& report : files) {
    text += printable(report.file) + ": ";
    if (report.error) {
      text += coloured(kRed, "not readable") + "\n";
    } else if (report.ok()) {
      text += coloured(kGreen, "ok") + ": " + summary(report) + "\n";
    } else {
      text += coloured(kRed, plural(num_errors(report), "error")) + ": " + summary(report) + "\n" +
              draw_all(report, max_width);
    }
  }
  return text;
}

std::string report_json(std::span<const FileReport> files) {
  ordered_json json{{"ok", std::all_of(files.begin(), files.end(), [](const auto& f) { return f.ok(); })},
                    {"files", ordered_json::array()}};
  for (const FileReport& report : files) json["files"].push_back(to_json(report));
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string report_junit(std::span<const FileReport> files) {
  const auto errors =
      std::count_if(files.begin(), files.end(), [](const auto& f) { return f.error.has_value(); });
  const auto failed = std::count_if(files.begin(), files.end(), [](const auto& f) { return !f.ok(); });
  const std::string counts = " tests=\"" + std::to_string(files.size()) + "\" failures=\"" +
                             std::to_string(failed - errors) + "\" errors=\"" + std::to_string(errors) + "\"";
  std::string text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" + counts +
                     ">\n  <testsuite name=\"counterflow\"" + counts + ">\n";
  for (const FileReport& report : files) text += junit_case(report);
  return text + "  </testsuite>\n</testsuites>\n";
}

std::string report_github(std::span<const FileReport> files) {
  std::string text;
  for (const FileReport& report : files) {
    if (report.error) {
      text += annotation(report, report.error_line, report.error_column, "unreadable", *report.error);
      continue;
    }
    const std::vector<Diagnostic> diagnostics = all_diagnostics(report);
    for (const Diagnostic& diagnostic : diagnostics) {
      const bool has_line =
          diagnostic.rank >= 0 && static_cast<std::size_t>(diagnostic.rank) < report.rank_lines.size();
      text += annotation(report, has_line ? report.rank_lines[diagnostic.rank] : 0, 0,
                         rule_name(diagnostic.rule), diagnostic.message);
    }
    const auto kept = static_cast<std::int64_t>(diagnostics.size());
    if (num_errors(report) > kept) {
      text +=
          annotation(report, 0, 0, "verify", "and " + std::to_string(num_errors(report) - kept) + " more");
    }
    text += printable(report.file) + ": " + (report.ok() ? "ok" : plural(num_errors(report), "error")) +
            ": " + summary(report) + "\n";
  }
  return text;
}

}  // namespace counterflow
