// What every stage and link of a model takes: the costs that simulate() runs a schedule under.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "counterflow/action.h"
#include "counterflow/cost.h"

namespace counterflow {

/// One stage. Bytes are of one micro-batch except where it says otherwise; 0 where nothing is known.
struct StageCost {
  Time f = 1;                           ///< forward
  Time i = 1;                           ///< input gradient
  Time w = 1;                           ///< weight gradient; a full backward takes i + w
  std::int64_t activation_bytes = 0;    ///< held from the start of F to the end of B or I
  std::int64_t weight_store_bytes = 0;  ///< what W still needs: held from the end of I to the end of W
  std::int64_t output_bytes = 0;        ///< sent forward, and received backward as its gradient
  std::int64_t parameter_bytes = 0;     ///< of the whole stage
  std::int64_t gradient_bytes = 0;      ///< of the whole stage's parameters
  std::int64_t optimizer_bytes = 0;     ///< of the whole stage's optimizer state

  friend bool operator==(const StageCost&, const StageCost&) = default;
};

/// What one directed pair of ranks takes to move a message: latency + ⌈bytes / bytes_per_time⌉. Messages of a
/// link go first in, first out, one after another.
struct Link {
  Time latency = 0;
  std::int64_t bytes_per_time = 0;  ///< 0: without limit

  friend bool operator==(const Link&, const Link&) = default;
};

/// Costs of a schedule. Plain data; check() says whether it fits a number of stages.
struct CostModel {
  std::vector<StageCost> stages = std::vector<StageCost>(1);  ///< one for all stages, or one for each

  /// Of single layers, where stages are still to be made of them: then `stages` is not looked at, `overlap`
  /// and `overlaps` are of layers, and only the search takes the model (search.h).
  std::vector<StageCost> layers;

  /// An overlapped pair of any two stages; where neither this nor `overlaps` has it, F + B.
  std::optional<Time> overlap;

  /// Overlapped pairs of a forward's stage and a backward's stage, before `overlap`.
  std::map<std::pair<std::int32_t, std::int32_t>, Time> overlaps;

  /// Between a producer's end and the arrival on another rank, any number at once. Used where `links` is off.
  Time p2p = 0;

  /// Links between ranks, first in, first out. `link` is every pair's that `link_of` (from, to) does not
  /// name.
  std::optional<Link> link;
  std::map<std::pair<std::int32_t, std::int32_t>, Link> link_of;

  /// Memory of a rank's device in bytes; 0 where nothing is known. `memory_of_rank` has each rank's own, or
  /// is empty.
  std::int64_t memory_bytes = 0;
  std::vector<std::int64_t> memory_of_rank;

  CostModel() = default;
  CostModel(const UniformCost& uniform, Time p2p_time = 0);  // NOLINT(google-explicit-constructor)

  std::int64_t memory(int rank) const { return memory_of_rank.empty() ? memory_bytes : memory_of_rank[rank]; }
  bool has_memory() const { return memory_bytes > 0 || !memory_of_rank.empty(); }
  bool has_links() const { return link.has_value() || !link_of.empty(); }
  const StageCost& stage(int index) const { return stages.size() == 1 ? stages[0] : stages[index]; }

  /// The time of a pass or of an overlapped pair.
  Time duration(const Pass& pass) const;
  Time duration(const Action& action) const;

  /// The time of a message of `bytes` between two ranks once the link is free.
  Time transfer(int from, int to, std::int64_t bytes) const;

  /// Throws InvalidConfig where the model has costs for another number of stages or ranks, of layers, or
  /// negative ones.
  void check(int num_stages, int num_ranks) const;

  /// The same for a model of layers.
  void check_layers(int num_ranks) const;

  friend bool operator==(const CostModel&, const CostModel&) = default;
};

/// Reads a cost file (JSON; schedules/README.md has the format). Unknown keys are errors. Throws ParseError.
CostModel parse_cost_model(std::string_view json, const std::string& file = "<text>");
CostModel read_cost_file(const std::string& path);

/// The JSON that parse_cost_model() reads. `unit` is that of the times, "us" say, for people; "" leaves it
/// out.
std::string format_cost_model(const CostModel& costs, const std::string& unit = "");

}  // namespace counterflow
