// A placement that a search looks at: its stages' costs, and the problem that its orders are of.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "counterflow/search.h"
#include "counterflow/simulate.h"
#include "layers.h"
#include "problem.h"

namespace counterflow::searching {

/// Orders of a bidirectional placement are those of the V that it folds to (fold.h), on half the ranks, with
/// a transfer in the turn: the second half of the ranks does the same with the directions exchanged.
struct Family {
  PlacementKind kind = PlacementKind::kOne;
  int stages_per_rank = 1;  ///< for one direction
  int copies = 1;
  Placement placement;
  CostModel costs;  ///< of its stages, in units of 1/parts; of layers until they are split (split.h)
  int parts = 1;
  int activation_parts = 1;                     ///< stages' activations in one of the request's
  std::optional<std::int64_t> max_activations;  ///< of a stage

  // Where layers were given and split:
  CostModel model;              ///< of the layers
  Split split;                  ///< layers of each stage
  Time least_of_any_split = 0;  ///< a lower bound

  bool folds() const { return kind == PlacementKind::kBidirectional; }

  /// The same with another number of micro-batches (even for two copies).
  Family with_micro_batches(int num_micro_batches) const;

  /// Whether a schedule on the placement holds no more than it may.
  bool allows(const Simulation& run) const;

  /// "v", "loop of 3 stages a rank"
  std::string name() const;

  /// The problem of its orders. `reserved_bytes` [rank] are kept free for receive buffers. `fastest`: where
  /// transfers of the two directions differ, the faster ones, for bounds.
  Problem problem(const std::vector<std::int64_t>& reserved_bytes, bool fastest = false) const;

  /// A schedule of an order.
  Schedule schedule(const Problem& problem, const Order& order, const std::string& name) const;

  /// The order of a complete schedule on the placement, or nothing where it does not fold.
  std::optional<Order> order(const Problem& problem, const Schedule& schedule) const;
};

/// The families of a request. `why_not` gets those that the sizes or copies rule out.
std::vector<Family> families_of(const SearchRequest& request, std::vector<SearchFamily>& why_not);

}  // namespace counterflow::searching
