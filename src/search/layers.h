// Layers and the stages that are made of them: neighbours, each stage one layer or more.
#pragma once

#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/placement.h"

namespace counterflow::searching {

/// How many layers each stage has, along the data's way.
using Split = std::vector<int>;

/// The costs of the stages of a split. In an overlapped pair of stages the layers overlap in the order in
/// which they run: the forward's first with the backward's first (its last layer), and so on; a pair of
/// layers dearer than one after the other is not overlapped, and what one stage has more runs alone.
CostModel stages_of(const CostModel& model, const Placement& placement, const Split& split);

/// What every schedule takes at least, whatever the split: the work of all ranks, a micro-batch's way, and
/// the longest stage that no split avoids.
Time layers_bound(const CostModel& model, const Placement& placement);

}  // namespace counterflow::searching
