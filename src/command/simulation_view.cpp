#include "simulation_view.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "counterflow/format.h"
#include "table.h"
#include "terminal.h"
#include "units.h"

namespace counterflow::command {
namespace {

using nlohmann::ordered_json;

std::string title(const Schedule& schedule, const std::string& costs) {
  return bold(schedule.name.empty() ? "schedule" : printable(schedule.name)) + ": " +
         plural(schedule.num_ranks(), "rank") + ", " + plural(schedule.num_stages(), "stage") +
         (schedule.placement.num_directions() > 1
              ? " in " + plural(schedule.placement.num_directions(), "direction")
              : "") +
         ", " + plural(schedule.num_micro_batches(), "micro-batch", "es") +
         (schedule.passes == Passes::kForward ? ", forward only" : "") + "; " + costs + "\n";
}

bool has_bytes(const Simulation& run) {
  return std::any_of(run.ranks.begin(), run.ranks.end(), [](const RankResult& rank) {
    return rank.peak_activation_bytes + rank.static_bytes + rank.receive_bytes > 0;
  });
}

std::string rank_table(const Simulation& run) {
  const bool bytes = has_bytes(run);
  std::vector<Table::Column> columns = {{"rank"}, {"busy"}, {"idle"}, {"span idle"}, {"peak activations"}};
  if (bytes) {
    for (const char* name : {"activations", "parameters etc.", "receive buffers", "total"})
      columns.push_back({name});
  }
  Table table(columns);
  for (std::size_t rank = 0; rank < run.ranks.size(); ++rank) {
    const RankResult& result = run.ranks[rank];
    std::vector<std::string> cells = {std::to_string(rank), std::to_string(result.busy),
                                      std::to_string(result.idle), std::to_string(result.span_idle),
                                      std::to_string(result.peak_activations)};
    if (bytes) {
      const std::int64_t parts[] = {result.peak_activation_bytes, result.static_bytes, result.receive_bytes};
      for (const std::int64_t part : parts) cells.push_back(bytes_text(part));
      cells.push_back(bytes_text(parts[0] + parts[1] + parts[2]));
    }
    table.add_row(cells);
  }
  return table.to_string();
}

std::string totals(const Simulation& run) {
  return "makespan " + bold(std::to_string(run.makespan)) + ", bubble " + std::to_string(run.bubble) +
         " on the idlest rank, bubble ratio " + bold(percent(run.bubble_ratio())) + "\n" + "peak " +
         plural(run.peak_activations(), "activation") + " on a rank; " +
         plural(run.receive_buffers(), "receive buffer") + " on the channel that needs most\n";
}

/// What ranks and channels add to the makespan, largest first, the small ones summed up.
std::string critical_summary(const Simulation& run) {
  struct Share {
    std::string who;
    Time time;
  };
  std::vector<Share> shares;
  for (std::size_t rank = 0; rank < run.ranks.size(); ++rank) {
    if (run.ranks[rank].critical > 0)
      shares.push_back({"rank " + std::to_string(rank), run.ranks[rank].critical});
  }
  for (const ChannelResult& channel : run.channels) {
    if (channel.critical > 0) {
      shares.push_back(
          {"link " + std::to_string(channel.from) + "->" + std::to_string(channel.to), channel.critical});
    }
  }
  std::stable_sort(shares.begin(), shares.end(),
                   [](const Share& a, const Share& b) { return a.time > b.time; });
  constexpr std::size_t kShown = 8;
  std::string text =
      "critical path of " + plural(static_cast<std::int64_t>(run.critical_path.size()), "action");
  const char* joint = ": ";
  const std::size_t shown = shares.size() <= kShown + 1 ? shares.size() : kShown;
  for (std::size_t i = 0; i < shown; ++i) {
    text += joint + std::to_string(shares[i].time) + " on " + shares[i].who;
    joint = ", ";
  }
  if (shares.size() > shown) {
    Time rest = 0;
    for (std::size_t i = shown; i < shares.size(); ++i) rest += shares[i].time;
    text += ", " + std::to_string(rest) + " on " + std::to_string(shares.size() - shown) + " others";
  }
  return text + "\n";
}

std::string critical_table(const Schedule& schedule, const Simulation& run) {
  Table table(
      {{"start"}, {"end"}, {"rank"}, {"action", Table::Align::kLeft}, {"waited for", Table::Align::kLeft}});
  for (const CriticalStep& step : run.critical_path) {
    table.add_row({std::to_string(step.start), std::to_string(step.end), std::to_string(step.rank),
                   to_string(schedule.actions[step.rank][step.step]),
                   step.after_transfer ? "a transfer" : ""});
  }
  return table.to_string();
}

ordered_json ranks_json(const Simulation& run) {
  ordered_json ranks = ordered_json::array();
  for (std::size_t rank = 0; rank < run.ranks.size(); ++rank) {
    const RankResult& result = run.ranks[rank];
    ranks.push_back({{"rank", rank},
                     {"busy", result.busy},
                     {"idle", result.idle},
                     {"span_idle", result.span_idle},
                     {"peak_activations", result.peak_activations},
                     {"peak_activation_bytes", result.peak_activation_bytes},
                     {"static_bytes", result.static_bytes},
                     {"receive_bytes", result.receive_bytes},
                     {"critical", result.critical}});
  }
  return ranks;
}

ordered_json channels_json(const Simulation& run) {
  ordered_json channels = ordered_json::array();
  for (const ChannelResult& channel : run.channels) {
    channels.push_back({{"from", channel.from},
                        {"to", channel.to},
                        {"messages", channel.messages},
                        {"busy", channel.busy},
                        {"receive_buffers", channel.receive_buffers},
                        {"critical", channel.critical}});
  }
  return channels;
}

ordered_json critical_json(const Schedule& schedule, const Simulation& run) {
  ordered_json path = ordered_json::array();
  for (const CriticalStep& step : run.critical_path) {
    path.push_back({{"rank", step.rank},
                    {"step", step.step},
                    {"action", to_string(schedule.actions[step.rank][step.step])},
                    {"start", step.start},
                    {"end", step.end},
                    {"after_transfer", step.after_transfer}});
  }
  return path;
}

}  // namespace

std::string simulation_text(const Schedule& schedule, const Simulation& run, const std::string& costs,
                            bool critical_path) {
  std::string text =
      title(schedule, costs) + "\n" + rank_table(run) + "\n" + totals(run) + critical_summary(run);
  if (critical_path) text += "\n" + critical_table(schedule, run);
  return text;
}

std::string simulation_json(const Schedule& schedule, const Simulation& run) {
  const ordered_json json{{"name", schedule.name},
                          {"makespan", run.makespan},
                          {"bubble", run.bubble},
                          {"bubble_ratio", run.bubble_ratio()},
                          {"peak_activations", run.peak_activations()},
                          {"receive_buffers", run.receive_buffers()},
                          {"ranks", ranks_json(run)},
                          {"channels", channels_json(run)},
                          {"critical_path", critical_json(schedule, run)}};
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace counterflow::command
