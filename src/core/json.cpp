#include <nlohmann/json.hpp>
#include <string>

#include "action_text.h"
#include "counterflow/error.h"
#include "counterflow/format.h"

namespace counterflow {
namespace {

using Json = nlohmann::ordered_json;

Json header(const Schedule& schedule) {
  Json directions = Json::array();
  for (const Direction& direction : schedule.placement.directions()) {
    directions.push_back({{"first_micro_batch", direction.first_micro_batch},
                          {"micro_batches", direction.num_micro_batches},
                          {"rank_of_stage", direction.rank_of_stage}});
  }
  Json claims = Json::array();
  for (const Claim& claim : schedule.claims) {
    claims.push_back({{"bubble", claim.bubble}, {"cost", to_string(claim.cost)}});
  }
  return {{"name", schedule.name},
          {"ranks", schedule.num_ranks()},
          {"stages", schedule.num_stages()},
          {"micro_batches", schedule.num_micro_batches()},
          {"passes", schedule.passes == Passes::kForward ? "forward" : "training"},
          {"directions", directions},
          {"claims", claims}};
}

}  // namespace

// The actions are written by hand: the six million of DualPipe at 1024 ranks x 4096 micro-batches would take
// half a gigabyte as JSON values.
std::string format_json(const Schedule& schedule) {
  std::string out = header(schedule).dump(-1, ' ', true, Json::error_handler_t::replace);
  out.pop_back();
  out += ",\n\"actions\":[";
  for (std::size_t rank = 0; rank < schedule.actions.size(); ++rank) {
    out += rank == 0 ? "\n[" : ",\n[";
    bool first = true;
    for (const Action& action : schedule.actions[rank]) {
      out += first ? "\"" : "\",\"";
      first = false;
      append_action(out, action);
    }
    out += first ? "]" : "\"]";
  }
  out += "\n]}\n";
  return out;
}

}  // namespace counterflow
