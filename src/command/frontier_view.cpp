#include "frontier_view.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/render.h"
#include "table.h"
#include "units.h"

namespace counterflow::command {
namespace {

using nlohmann::ordered_json;

const SearchFamily& family_of(const FrontierPoint& point) {
  return point.result.families[point.result.family];
}

std::string gap_text(const SearchResult& result) {
  return result.optimal() ? "optimal" : percent(result.gap());
}

}  // namespace

std::string point_file(std::size_t index) {
  return std::to_string(index + 1) + ".csv";
}

std::string frontier_text(const Frontier& frontier) {
  std::vector<Table::Column> columns{
      {"file", Table::Align::kLeft}, {"schedule", Table::Align::kLeft}, {"makespan"}, {"at least"}, {"gap"},
      {"peak activations"}};
  if (frontier.in_bytes) columns.push_back({"bytes"});
  columns.insert(columns.end(), {{"parameters"}, {"stages/rank"}});
  Table table(columns);
  for (std::size_t i = 0; i < frontier.points.size(); ++i) {
    const FrontierPoint& point = frontier.points[i];
    const SearchResult& result = point.result;
    std::vector<std::string> cells{point_file(i),
                                   result.schedule.name,
                                   to_string(result.makespan),
                                   to_string(result.lower_bound),
                                   gap_text(result),
                                   to_string(point.activations)};
    if (frontier.in_bytes) cells.push_back(bytes_text(point.bytes));
    cells.push_back(std::to_string(family_of(point).copies) + "x");
    cells.push_back(std::to_string(family_of(point).stages_per_rank));
    table.add_row(cells);
  }
  return table.to_string();
}

std::string frontier_json(const Frontier& frontier) {
  ordered_json points = ordered_json::array();
  for (std::size_t i = 0; i < frontier.points.size(); ++i) {
    const FrontierPoint& point = frontier.points[i];
    ordered_json json{{"file", point_file(i)},
                      {"name", point.result.schedule.name},
                      {"makespan", point.result.makespan.to_double()},
                      {"lower_bound", point.result.lower_bound.to_double()},
                      {"gap", point.result.gap()},
                      {"peak_activations", point.activations.to_double()}};
    if (frontier.in_bytes) json["bytes"] = point.bytes;
    json["placement"] = placement_kind_name(family_of(point).placement);
    json["stages_per_rank"] = family_of(point).stages_per_rank;
    json["parameters"] = family_of(point).copies;
    if (!family_of(point).layers.empty()) json["layers"] = family_of(point).layers;
    points.push_back(json);
  }
  return ordered_json{{"frontier", points}}.dump(2) + "\n";
}

void write_frontier(const Frontier& frontier, const std::string& folder, const std::string& title) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw Error(folder + ": expected a folder that can be made: " + error.message());
  std::vector<FrontierMark> marks;
  for (std::size_t i = 0; i < frontier.points.size(); ++i) {
    const FrontierPoint& point = frontier.points[i];
    write_file(folder + "/" + point_file(i), format(point.result.schedule));
    constexpr double kMiB = 1 << 20;
    marks.push_back(
        {frontier.in_bytes ? static_cast<double>(point.bytes) / kMiB : point.activations.to_double(),
         point.result.makespan.to_double(), point.result.lower_bound.to_double(),
         std::string(placement_kind_name(family_of(point).placement))});
  }
  write_file(folder + "/frontier.svg",
             draw_frontier(marks, title, frontier.in_bytes ? "MiB on the fullest rank" : "peak activations"));
}

}  // namespace counterflow::command
