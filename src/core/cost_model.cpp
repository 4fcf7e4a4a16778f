#include "counterflow/cost_model.h"

#include "counterflow/error.h"

namespace counterflow {
namespace {

[[noreturn]] void refuse(const std::string& what, std::int64_t found, const std::string& expected) {
  throw InvalidConfig("costs: " + what + ": expected " + expected + ", found " + std::to_string(found));
}

void check_not_negative(const std::string& what, std::int64_t value) {
  if (value < 0) refuse(what, value, "0 or more");
}

void check_link(const std::string& what, const Link& link) {
  check_not_negative(what + " latency", link.latency);
  check_not_negative(what + " bytes_per_time", link.bytes_per_time);
}

/// `unit`: "stage" or "layer".
void check_stages(const std::string& unit, const std::vector<StageCost>& stages) {
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const StageCost& cost = stages[s];
    const std::string where = unit + " " + std::to_string(s) + " ";
    check_not_negative(where + "f", cost.f);
    check_not_negative(where + "i", cost.i);
    check_not_negative(where + "w", cost.w);
    check_not_negative(where + "activation_bytes", cost.activation_bytes);
    check_not_negative(where + "weight_store_bytes", cost.weight_store_bytes);
    check_not_negative(where + "output_bytes", cost.output_bytes);
    check_not_negative(where + "parameter_bytes", cost.parameter_bytes);
    check_not_negative(where + "gradient_bytes", cost.gradient_bytes);
    check_not_negative(where + "optimizer_bytes", cost.optimizer_bytes);
  }
}

/// Pairs, transfers and memory.
void check_between(const CostModel& costs, const std::string& unit, int num_units, int num_ranks) {
  check_not_negative("p2p", costs.p2p);
  check_not_negative("memory_bytes", costs.memory_bytes);
  for (const std::int64_t bytes : costs.memory_of_rank) check_not_negative("memory_bytes of a rank", bytes);
  if (!costs.memory_of_rank.empty() && costs.memory_of_rank.size() != static_cast<std::size_t>(num_ranks))
    refuse("memory_bytes of ranks", static_cast<std::int64_t>(costs.memory_of_rank.size()),
           "those of " + std::to_string(num_ranks));
  if (costs.overlap) check_not_negative("overlap", *costs.overlap);
  for (const auto& [pair, time] : costs.overlaps) {
    check_not_negative("overlap", time);
    for (const std::int32_t one : {pair.first, pair.second}) {
      if (one < 0 || one >= num_units)
        refuse("overlap of " + unit, one, "0 to " + std::to_string(num_units - 1));
    }
  }
  if (costs.link) check_link("link", *costs.link);
  for (const auto& [pair, one] : costs.link_of) {
    check_link("link", one);
    for (const std::int32_t rank : {pair.first, pair.second}) {
      if (rank < 0 || rank >= num_ranks)
        refuse("link of rank", rank, "0 to " + std::to_string(num_ranks - 1));
    }
  }
}

}  // namespace

CostModel::CostModel(const UniformCost& uniform, Time p2p_time)
    : stages{StageCost{.f = uniform.f, .i = uniform.i, .w = uniform.w}}, overlap(uniform.fb), p2p(p2p_time) {}

Time CostModel::duration(const Pass& pass) const {
  const StageCost& cost = stage(pass.stage);
  switch (pass.kind) {
    case PassKind::kForward:
      return cost.f;
    case PassKind::kBackward:
      return cost.i + cost.w;
    case PassKind::kInputGradient:
      return cost.i;
    case PassKind::kWeightGradient:
      return cost.w;
  }
  return 0;
}

Time CostModel::duration(const Action& action) const {
  const auto passes = action.passes();
  if (!action.is_overlap()) return duration(passes[0]);
  if (!overlaps.empty()) {
    const auto found = overlaps.find({passes[0].stage, passes[1].stage});
    if (found != overlaps.end()) return found->second;
  }
  return overlap ? *overlap : duration(passes[0]) + duration(passes[1]);
}

Time CostModel::transfer(int from, int to, std::int64_t bytes) const {
  if (!has_links()) return p2p;
  const auto found = link_of.find({from, to});
  const Link used = found != link_of.end() ? found->second : link.value_or(Link{});
  if (used.bytes_per_time == 0) return used.latency;
  return used.latency + bytes / used.bytes_per_time + (bytes % used.bytes_per_time != 0 ? 1 : 0);
}

void CostModel::check(int num_stages, int num_ranks) const {
  if (!layers.empty()) {
    throw InvalidConfig(
        "costs: expected those of stages, found those of layers; `search` makes stages of them");
  }
  if (stages.size() != 1 && stages.size() != static_cast<std::size_t>(num_stages)) {
    refuse("number of stages", static_cast<std::int64_t>(stages.size()),
           "1 or " + std::to_string(num_stages));
  }
  check_stages("stage", stages);
  check_between(*this, "stage", num_stages, num_ranks);
}

void CostModel::check_layers(int num_ranks) const {
  check_stages("layer", layers);
  check_between(*this, "layer", static_cast<int>(layers.size()), num_ranks);
}

}  // namespace counterflow
