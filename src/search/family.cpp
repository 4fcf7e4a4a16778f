#include "family.h"

#include <algorithm>
#include <limits>
#include <map>

#include "../core/shares.h"
#include "counterflow/error.h"
#include "counterflow/fold.h"

namespace counterflow::searching {
namespace {

/// Numbers the channels of links whose messages wait for each other.
class Channels {
 public:
  explicit Channels(const CostModel& costs) : used_(costs.has_links()) {}

  std::int32_t find(int from, int to) {
    if (!used_) return -1;
    const auto next = static_cast<std::int32_t>(numbers_.size());
    return numbers_.emplace(std::pair{from, to}, next).first->second;
  }

 private:
  bool used_;
  std::map<std::pair<int, int>, std::int32_t> numbers_;
};

std::int64_t static_bytes(const Family& family, int rank) {
  std::int64_t bytes = 0;
  for (const std::int32_t stage : family.placement.stages_on(rank)) {
    const StageCost& cost = family.costs.stage(stage);
    bytes += cost.parameter_bytes + cost.gradient_bytes + cost.optimizer_bytes;
  }
  return bytes;
}

/// value * factor, or the largest number.
std::int64_t saturated(std::int64_t value, std::int64_t factor) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  return value > kMost / factor ? kMost : value * factor;
}

/// A rank that stands for its mirror image too has what both have; for bounds, what one of them has.
std::int64_t memory_of(const Family& family, int rank, bool most) {
  const std::int64_t own = family.costs.memory(rank);
  if (!family.folds()) return own;
  const std::int64_t mirrored = family.costs.memory(family.placement.num_ranks() - 1 - rank);
  if (own == 0 || mirrored == 0) return most ? 0 : std::max(own, mirrored);  // 0 is without limit
  return most ? std::max(own, mirrored) : std::min(own, mirrored);
}

Limits limits_of(const Family& family, int rank, std::int64_t reserved_bytes, bool most) {
  Limits limits;
  if (family.max_activations) limits.activations = std::min(limits.activations, *family.max_activations);
  if (const std::int64_t memory = memory_of(family, rank, most); memory > 0)
    limits.bytes = memory - static_bytes(family, rank) - reserved_bytes;
  return limits;
}

}  // namespace

Family Family::with_micro_batches(int num_micro_batches) const {
  Family family = *this;
  const int ranks = placement.num_ranks();
  switch (kind) {
    case PlacementKind::kOne:
    case PlacementKind::kLoop:
      family.placement = Placement::loop(ranks, stages_per_rank, num_micro_batches);
      break;
    case PlacementKind::kV:
      family.placement = Placement::v(ranks, num_micro_batches);
      break;
    case PlacementKind::kBidirectional:
      family.placement = Placement::bidirectional(ranks, num_micro_batches);
      break;
  }
  return family;
}

bool Family::allows(const Simulation& run) const {
  if (max_activations && run.peak_activations() > *max_activations) return false;
  if (!costs.has_memory()) return true;
  for (std::size_t rank = 0; rank < run.ranks.size(); ++rank) {
    const std::int64_t memory = costs.memory(static_cast<int>(rank));
    const RankResult& holds = run.ranks[rank];
    if (memory > 0 && holds.static_bytes + holds.peak_activation_bytes + holds.receive_bytes > memory)
      return false;
  }
  return true;
}

std::string Family::name() const {
  const std::string kind_name(placement_kind_name(kind));
  return kind == PlacementKind::kLoop
             ? kind_name + " of " + std::to_string(stages_per_rank) + " stages a rank"
             : kind_name;
}

Problem Family::problem(const std::vector<std::int64_t>& reserved_bytes, bool fastest) const {
  const int last = placement.num_ranks() - 1;
  const int num_ranks = folds() ? placement.num_ranks() / 2 : placement.num_ranks();
  const int num_micro_batches = folds() ? placement.num_micro_batches() / 2 : placement.num_micro_batches();
  const int num_stages = placement.num_stages();
  const std::vector<std::int32_t>& ranks = placement.direction(0).rank_of_stage;
  const auto rank_of = [&](int stage) {
    return folds() ? std::min(ranks[stage], last - ranks[stage]) : ranks[stage];
  };

  Channels channels(costs);
  std::vector<Problem::Transfer> transfers(2 * num_stages);
  for (int hop = 0; hop + 1 < 2 * num_stages; ++hop) {
    const bool is_gradient = hop >= num_stages;
    if (hop + 1 == num_stages) continue;  // the last stage's forward: its gradient is next
    const int from = is_gradient ? 2 * num_stages - 1 - hop : hop;
    const int to = is_gradient ? from - 1 : from + 1;
    if (ranks[from] == ranks[to]) continue;
    const std::int64_t bytes = costs.stage(std::min(from, to)).output_bytes;
    Time delay = costs.transfer(ranks[from], ranks[to], bytes);
    if (folds()) {
      const Time mirrored = costs.transfer(last - ranks[from], last - ranks[to], bytes);
      delay = fastest ? std::min(delay, mirrored) : std::max(delay, mirrored);
    }
    transfers[hop] = {delay, channels.find(rank_of(from), rank_of(to))};
  }

  std::vector<Limits> limits;
  std::vector<std::int32_t> rank_of_stage;
  for (int rank = 0; rank < num_ranks; ++rank)
    limits.push_back(limits_of(*this, rank, reserved_bytes[rank], fastest));
  for (int stage = 0; stage < num_stages; ++stage) rank_of_stage.push_back(rank_of(stage));
  return {num_ranks, num_micro_batches, rank_of_stage, costs, transfers, limits, folds()};
}

Schedule Family::schedule(const Problem& problem, const Order& order, const std::string& name) const {
  Schedule schedule{name, placement, Passes::kTraining, {}, actions_of(problem, order)};
  if (!folds()) return schedule;
  schedule.placement = Placement::v(placement.num_ranks() / 2, placement.num_micro_batches() / 2);
  return unfold(schedule, name);
}

std::optional<Order> Family::order(const Problem& problem, const Schedule& schedule) const {
  if (!folds()) return order_of(problem, schedule);
  try {
    return order_of(problem, fold(schedule));
  } catch (const InvalidConfig&) {
    return std::nullopt;  // its two halves are no mirror images
  }
}

namespace {

struct Choice {
  PlacementKind kind;
  int stages_per_rank;
};

std::vector<Choice> choices_of(const SearchRequest& request) {
  std::vector<PlacementKind> kinds = request.placements;
  if (kinds.empty())
    kinds = {PlacementKind::kOne, PlacementKind::kLoop, PlacementKind::kV, PlacementKind::kBidirectional};
  std::vector<Choice> choices;
  for (const PlacementKind kind : kinds) {
    if (kind == PlacementKind::kLoop) {
      for (const int stages : request.stages_per_rank) choices.push_back({kind, stages});
    } else {
      choices.push_back({kind, kind == PlacementKind::kV ? 2 : 1});
    }
  }
  return choices;
}

std::string refusal(const SearchRequest& request, const Choice& choice) {
  const std::int64_t stages = std::int64_t{request.ranks} * choice.stages_per_rank;
  const auto layers = static_cast<std::int64_t>(request.costs.layers.size());
  if (layers > 0 && layers < stages)
    return "needs " + std::to_string(stages) + " layers, and there are " + std::to_string(layers);
  if (choice.kind != PlacementKind::kBidirectional) return {};
  if (request.copies < 2) return "needs two copies of the parameters";
  if (request.ranks % 2 != 0 || request.micro_batches % 2 != 0)
    return "needs even numbers of ranks and micro-batches";
  return {};
}

}  // namespace

std::vector<Family> families_of(const SearchRequest& request, std::vector<SearchFamily>& why_not) {
  const std::vector<Choice> choices = choices_of(request);
  const bool of_stages = choices.size() == 1;
  std::vector<Family> families;
  for (const Choice& choice : choices) {
    const int copies = choice.kind == PlacementKind::kBidirectional ? 2 : 1;
    if (std::string why = refusal(request, choice); !why.empty()) {
      SearchFamily& family = why_not.emplace_back();
      family.placement = choice.kind;
      family.stages_per_rank = choice.stages_per_rank;
      family.copies = copies;
      family.why_not = std::move(why);
      continue;
    }
    Family family;
    family.kind = choice.kind;
    family.stages_per_rank = choice.stages_per_rank;
    family.copies = copies;
    family.placement = Placement::loop(request.ranks, 1, 1);
    family = family.with_micro_batches(request.micro_batches);
    family.activation_parts = of_stages ? 1 : choice.stages_per_rank;
    if (request.max_activations)
      family.max_activations = saturated(*request.max_activations, family.activation_parts);
    family.costs = request.costs;
    if (request.costs.layers.empty()) {
      family.parts = family.activation_parts;
      if (!of_stages) {
        family.costs = cut_shares(request.costs, request.ranks, family.parts);
        family.costs.memory_bytes = saturated(request.costs.memory_bytes, family.parts);
        family.costs.memory_of_rank = request.costs.memory_of_rank;
        for (std::int64_t& bytes : family.costs.memory_of_rank) bytes = saturated(bytes, family.parts);
      }
      family.costs.check(family.placement.num_stages(), request.ranks);
    } else {
      family.costs.check_layers(request.ranks);
    }
    families.push_back(std::move(family));
  }
  return families;
}

}  // namespace counterflow::searching

namespace counterflow {

namespace {

constexpr std::string_view kNames[] = {"one", "loop", "v", "bidirectional"};

}  // namespace

std::string_view placement_kind_name(PlacementKind kind) {
  return kNames[static_cast<std::size_t>(kind)];
}

PlacementKind find_placement_kind(std::string_view name) {
  for (std::size_t kind = 0; kind < std::size(kNames); ++kind) {
    if (kNames[kind] == name) return static_cast<PlacementKind>(kind);
  }
  throw InvalidConfig("expected a placement out of one, loop, v and bidirectional, found \"" +
                      std::string(name.substr(0, 80)) + "\"");
}

}  // namespace counterflow
