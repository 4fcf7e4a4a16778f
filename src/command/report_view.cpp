#include "report_view.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "counterflow/format.h"
#include "table.h"
#include "terminal.h"
#include "units.h"

namespace counterflow::command {
namespace {

using nlohmann::ordered_json;

constexpr double kMicrosecond = 1000;
constexpr double kMillisecond = 1e6;

double to_us(Time time, std::int64_t unit_ns = 1) {
  return static_cast<double>(time) * static_cast<double>(unit_ns) / kMicrosecond;
}

/// Milliseconds with three decimals.
std::string milliseconds(Time time, std::int64_t unit_ns = 1) {
  std::string text(64, '\0');
  const double value = static_cast<double>(time) * static_cast<double>(unit_ns) / kMillisecond;
  text.resize(std::snprintf(text.data(), text.size(), "%.3f", value));
  return text;
}

double share(Time part, Time whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

IdleSplit sum_of(const std::vector<IdleSplit>& splits) {
  IdleSplit sum;
  for (const IdleSplit& one : splits) {
    sum.busy += one.busy;
    sum.waiting += one.waiting;
    sum.transfer += one.transfer;
    sum.launch_gap += one.launch_gap;
    sum.imbalance += one.imbalance;
  }
  return sum;
}

ordered_json chunk_json(const ChunkProfile& chunk) {
  return {{"count", chunk.count},
          {"compute_us", to_us(chunk.compute)},
          {"communication_us", to_us(chunk.communication)},
          {"busy_us", to_us(chunk.busy)}};
}

}  // namespace

std::string run_report_text(const RunReport& report) {
  const auto& [run, plan, costs, idle] = report;
  const std::int64_t unit = run.unit_ns;
  std::string text = bold(run.name.empty() ? "recording" : printable(run.name)) + ": " +
                     plural(run.placement.num_ranks(), "rank") + ", " +
                     plural(run.placement.num_micro_batches(), "micro-batch", "es") + "\n";
  text += "run   " + bold(milliseconds(run.end(), unit)) + " ms, bubble ratio " +
          bold(percent(bubble_ratio(run))) + "\n";
  text += "plan  " + milliseconds(plan.end(), plan.unit_ns) + " ms, bubble ratio " +
          percent(bubble_ratio(plan)) + ", under " + costs + "\n\n";
  Table table({{"rank"},
               {"busy"},
               {"idle"},
               {"waiting"},
               {"transfer"},
               {"launch gap"},
               {"imbalance"},
               {"plan: busy"},
               {"plan: idle"}});
  const std::vector<RankSummary> planned = summarize(plan);
  for (std::size_t rank = 0; rank < idle.size(); ++rank) {
    const IdleSplit& one = idle[rank];
    table.add_row({std::to_string(rank), milliseconds(one.busy, unit), milliseconds(one.idle(), unit),
                   milliseconds(one.waiting, unit), milliseconds(one.transfer, unit),
                   milliseconds(one.launch_gap, unit), milliseconds(one.imbalance, unit),
                   milliseconds(planned[rank].busy, plan.unit_ns),
                   milliseconds(planned[rank].idle, plan.unit_ns)});
  }
  text += "in milliseconds:\n" + table.to_string() + "\n";
  const IdleSplit sum = sum_of(idle);
  text += "of all idle time " + percent(share(sum.waiting, sum.idle())) +
          " is waiting for a peer as equal stages would too, " + percent(share(sum.imbalance, sum.idle())) +
          " imbalance,\n" + percent(share(sum.transfer, sum.idle())) + " transfer and " +
          percent(share(sum.launch_gap, sum.idle())) + " launch gaps\n";
  return text;
}

std::string run_report_json(const RunReport& report) {
  const auto& [run, plan, costs, idle] = report;
  const auto split_json = [&](const IdleSplit& one) {
    return ordered_json{{"busy_us", to_us(one.busy, run.unit_ns)},
                        {"idle_us", to_us(one.idle(), run.unit_ns)},
                        {"waiting_for_peer_us", to_us(one.waiting, run.unit_ns)},
                        {"transfer_us", to_us(one.transfer, run.unit_ns)},
                        {"launch_gap_us", to_us(one.launch_gap, run.unit_ns)},
                        {"imbalance_us", to_us(one.imbalance, run.unit_ns)}};
  };
  const auto timeline_json = [](const Timeline& timeline) {
    return ordered_json{{"span_us", to_us(timeline.end(), timeline.unit_ns)},
                        {"bubble_ratio", bubble_ratio(timeline)}};
  };
  ordered_json ranks = ordered_json::array();
  const std::vector<RankSummary> planned = summarize(plan);
  for (std::size_t rank = 0; rank < idle.size(); ++rank) {
    ordered_json one = {{"rank", rank}};
    one.update(split_json(idle[rank]));
    one["plan_busy_us"] = to_us(planned[rank].busy, plan.unit_ns);
    one["plan_idle_us"] = to_us(planned[rank].idle, plan.unit_ns);
    ranks.push_back(std::move(one));
  }
  ordered_json json = {{"kind", "recording"}, {"name", run.name}};
  json.update(timeline_json(run));
  json["plan"] = timeline_json(plan);
  json["plan"]["costs"] = costs;
  json["total"] = split_json(sum_of(idle));
  json["ranks"] = std::move(ranks);
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string profile_report_text(const ProfileTrace& trace, const std::string& file) {
  std::string text = bold(file) + ": a profiler's trace of " + milliseconds(trace.span) + " ms\n\n";
  Table streams({{"device"}, {"stream"}, {"kernels"}, {"busy ms"}, {"", Table::Align::kLeft}});
  for (const ProfileStream& one : trace.streams) {
    streams.add_row({one.device, one.stream, std::to_string(one.kernels), milliseconds(one.busy),
                     one.communicates ? "communication" : "compute"});
  }
  text += streams.to_string() + "\n";
  text += "compute " + milliseconds(trace.compute_busy) + " ms, communication " +
          milliseconds(trace.communication_busy) + " ms, " +
          bold(percent(trace.communication_hidden_ratio())) + " of it hidden behind compute\n\n";
  Table chunks(
      {{"chunk", Table::Align::kLeft}, {"count"}, {"compute ms"}, {"communication ms"}, {"alone ms"}});
  const auto add = [&](const char* name, const ChunkProfile& one) {
    if (one.count == 0) return;
    chunks.add_row({name, std::to_string(one.count), milliseconds(one.compute),
                    milliseconds(one.communication), milliseconds(one.busy)});
  };
  add("forward", trace.forward);
  add(trace.weight_gradient.count > 0 ? "backward without weight gradients" : "backward", trace.backward);
  add("weight gradients", trace.weight_gradient);
  text += chunks.to_string();
  if (trace.pair) text += "forward and backward overlapped: " + bold(milliseconds(*trace.pair)) + " ms\n";
  return text;
}

std::string profile_report_json(const ProfileTrace& trace) {
  ordered_json streams = ordered_json::array();
  for (const ProfileStream& one : trace.streams) {
    streams.push_back({{"device", one.device},
                       {"stream", one.stream},
                       {"kind", one.communicates ? "communication" : "compute"},
                       {"kernels", one.kernels},
                       {"busy_us", to_us(one.busy)}});
  }
  ordered_json chunks = {{"forward", chunk_json(trace.forward)},
                         {"backward", chunk_json(trace.backward)},
                         {"weight_gradient", chunk_json(trace.weight_gradient)},
                         {"pair_us", nullptr}};
  if (trace.pair) chunks["pair_us"] = to_us(*trace.pair);
  const ordered_json json = {{"kind", "profile"},
                             {"span_us", to_us(trace.span)},
                             {"compute_busy_us", to_us(trace.compute_busy)},
                             {"communication_busy_us", to_us(trace.communication_busy)},
                             {"communication_hidden_us", to_us(trace.communication_hidden)},
                             {"communication_hidden_ratio", trace.communication_hidden_ratio()},
                             {"streams", std::move(streams)},
                             {"chunks", std::move(chunks)}};
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace counterflow::command
