// Finds the best schedule it can for given costs and memory, and proves how far from optimal that may be.
//
// It never returns a worse one than the best of all generators, folded and unfolded, that fit. Beyond that it
// improves the ranks' orders by local search until it is stopped. What it makes itself for two copies of the
// parameters are mirror images. The lower bounds hold for every schedule on the placements that it looks at.
// Safe to call from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/compare.h"
#include "counterflow/cost_model.h"
#include "counterflow/schedule.h"

namespace counterflow {

/// How stages may lie on ranks.
enum class PlacementKind : std::uint8_t {
  kOne,            ///< one stage a rank
  kLoop,           ///< several stages a rank, stage s on rank s mod P
  kV,              ///< two stages a rank, s and 2P - 1 - s
  kBidirectional,  ///< two copies of every stage; ranks and micro-batches even
};

/// "one", "loop", "v" or "bidirectional".
std::string_view placement_kind_name(PlacementKind kind);

/// Throws InvalidConfig for another name.
PlacementKind find_placement_kind(std::string_view name);

struct SearchProgress {
  int rounds = 0;
  Fraction makespan;
  Fraction lower_bound;
};

struct SearchRequest {
  int ranks = 0;
  int micro_batches = 0;

  /// Where one placement is asked for, the costs of its stages. Otherwise those of a 1/ranks share of the
  /// model (compare.h). One StageCost for all, or one for each, along the data's way. Or those of single
  /// layers (CostModel::layers): then the search makes stages of them. With memory_bytes, parameters and
  /// activations and receive buffers have to fit.
  CostModel costs;

  /// Most activations on a rank, each from the start of F to the end of B or W: of a stage where one
  /// placement is asked for, otherwise of a share.
  std::optional<std::int64_t> max_activations;

  std::vector<PlacementKind> placements;  ///< empty: all
  std::vector<int> stages_per_rank{2};    ///< tried for kLoop
  int copies = 2;                         ///< of the parameters at most

  /// The result depends on the request, the seed and the number of rounds alone, not on `threads` or on how
  /// fast the machine is.
  std::uint64_t seed = 1;
  int threads = 0;            ///< 0: all cores
  double seconds = 10;        ///< wall-clock time at most
  std::optional<int> rounds;  ///< at most; without, as many as there is time for
  std::stop_token stop;       ///< ends it early, with what it has

  /// Called after each round, from the thread that called search().
  std::function<void(const SearchProgress&)> progress;
};

/// What came out for one placement. Times are in the unit of the request's costs.
struct SearchFamily {
  PlacementKind placement = PlacementKind::kOne;
  int stages_per_rank = 1;  ///< for one direction
  int copies = 1;

  bool feasible = false;  ///< something fits; otherwise only `why_not` is set
  std::string why_not;

  Fraction makespan;
  Fraction lower_bound;
  Fraction peak_activations;  ///< of the request's unit, on the rank that holds most
  std::int64_t num_pairs = 0;

  std::vector<int> layers;  ///< of each stage, where the costs are of layers

  std::string best_known;  ///< the best generator that fits, and how it was folded; "" where none does
  Fraction best_known_makespan;
};

struct SearchResult {
  Schedule schedule;  ///< named after the generator where nothing better was found

  /// What the schedule's stages take, in units of 1/parts of the request's time and bytes.
  CostModel costs;
  int parts = 1;

  Fraction makespan;
  Fraction lower_bound;    ///< of every schedule on the placements asked for, and every split of layers
  std::size_t family = 0;  ///< the winner's index
  std::vector<SearchFamily> families;
  std::string why;  ///< why it won: against other placements and the generators

  int rounds = 0;                    ///< finished
  std::int64_t num_evaluations = 0;  ///< orders timed, in finished rounds

  bool optimal() const { return makespan == lower_bound; }

  /// makespan / lower_bound - 1: how much longer than an optimal schedule it takes at most.
  double gap() const;
};

/// Throws InvalidConfig where the request does not fit together or no schedule fits the memory.
SearchResult search(const SearchRequest& request);

}  // namespace counterflow
