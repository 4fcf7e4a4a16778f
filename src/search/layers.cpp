#include "layers.h"

#include <algorithm>
#include <limits>

namespace counterflow::searching {
namespace {

Time pair_time(const CostModel& model, int forward, int backward) {
  const StageCost& f = model.layers[forward];
  const StageCost& b = model.layers[backward];
  const Time alone = f.f + b.i + b.w;
  const auto found = model.overlaps.find({forward, backward});
  if (found != model.overlaps.end()) return std::min(alone, found->second);
  return model.overlap ? std::min(alone, *model.overlap) : alone;
}

void add(StageCost& stage, const StageCost& layer) {
  stage.f += layer.f;
  stage.i += layer.i;
  stage.w += layer.w;
  stage.activation_bytes += layer.activation_bytes;
  stage.weight_store_bytes += layer.weight_store_bytes;
  stage.output_bytes = layer.output_bytes;  // of the last
  stage.parameter_bytes += layer.parameter_bytes;
  stage.gradient_bytes += layer.gradient_bytes;
  stage.optimizer_bytes += layer.optimizer_bytes;
}

/// What a pair of two stages takes.
Time stage_pair_time(const CostModel& model, const Split& split, const std::vector<int>& begin, int forward,
                     int backward) {
  Time time = 0;
  const int both = std::min(split[forward], split[backward]);
  for (int i = 0; i < both; ++i)
    time += pair_time(model, begin[forward] + i, begin[backward] + split[backward] - 1 - i);
  for (int i = both; i < split[forward]; ++i) time += model.layers[begin[forward] + i].f;
  for (int i = both; i < split[backward]; ++i) {
    const StageCost& layer = model.layers[begin[backward] + split[backward] - 1 - i];
    time += layer.i + layer.w;
  }
  return time;
}

bool has_pairs(const CostModel& model) {
  return model.overlap.has_value() || !model.overlaps.empty();
}

/// Times of layers as bounds see them. What pairs save is taken off the work of the forward's layer, as if
/// each of its forwards were in the pair that saves most.
class Least {
 public:
  explicit Least(const CostModel& model) {
    Time longest_backward = 0;
    for (const StageCost& layer : model.layers) {
      longest_backward = std::max(longest_backward, layer.i + layer.w);
      forward.push_back(layer.f);
    }
    gain_.resize(model.layers.size(), 0);
    if (model.overlap) {
      shortest_pair_ = *model.overlap;
      for (std::size_t layer = 0; layer < gain_.size(); ++layer)
        gain_[layer] = std::max<Time>(0, forward[layer] + longest_backward - *model.overlap);
    }
    for (const auto& [pair, time] : model.overlaps) {
      const StageCost& backward = model.layers[pair.second];
      Time& gain = gain_[pair.first];
      gain = std::max(gain, forward[pair.first] + backward.i + backward.w - time);
      shortest_pair_ = std::min(shortest_pair_, time);
    }
    for (std::size_t layer = 0; layer < gain_.size(); ++layer) {
      const StageCost& cost = model.layers[layer];
      work.push_back(cost.f + cost.i + cost.w - gain_[layer]);
      gradient.push_back(std::min(cost.i, shortest_pair_));
    }
    // Pairs that save more than their forward's layer takes: nothing is known of its work.
    if (std::any_of(work.begin(), work.end(), [](Time time) { return time < 0; }))
      std::fill(work.begin(), work.end(), 0);
    last_backward = std::min(model.layers[0].i + model.layers[0].w, shortest_pair_);
  }

  std::vector<Time> forward;   // before the first backward nothing is in a pair
  std::vector<Time> work;      // of a micro-batch
  std::vector<Time> gradient;  // from its start to its output
  Time last_backward = 0;      // of the first layer, with its W

 private:
  std::vector<Time> gain_;
  Time shortest_pair_ = std::numeric_limits<Time>::max() / 4;
};

bool is_bidirectional(const Placement& placement) {
  return placement.num_directions() == 2;
}

/// Transfers between ranks on a micro-batch's way forward.
Time transfers(const CostModel& model, const Placement& placement, int stages) {
  if (model.has_links()) return 0;
  const auto& ranks = placement.direction(0).rank_of_stage;
  Time time = 0;
  for (int stage = 0; stage + 1 < stages; ++stage) time += ranks[stage] != ranks[stage + 1] ? model.p2p : 0;
  return time;
}

/// A rank's first stage comes after as many others as its number, or its twin's, says; each has a layer.
Time work_bound(const CostModel& model, const Placement& placement, const Least& least) {
  const int ranks = placement.num_ranks();
  Time sum = 0;
  for (const Time work : least.work) sum += work * placement.num_micro_batches();
  Time head = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const int before = is_bidirectional(placement) ? std::min(rank, ranks - 1 - rank) : rank;
    head += transfers(model, placement, before + 1);
    for (int layer = 0; layer < before; ++layer) head += least.forward[layer];
  }
  return (sum + head + ranks - 1) / ranks;
}

Time way_bound(const CostModel& model, const Placement& placement, const Least& least) {
  Time time = 2 * transfers(model, placement, placement.num_stages());
  for (const Time forward : least.forward) time += forward;
  for (std::size_t layer = 1; layer < least.gradient.size(); ++layer) time += least.gradient[layer];
  return time + least.last_backward;
}

/// Whether stages could be so short that none is at work later than `limit`, were each alone on its rank.
/// Stages as long as they can be leave the fewest layers to those after them.
bool stages_end_by(Time limit, const Least& least, std::int64_t micro_batches, int num_stages) {
  std::size_t layer = 0;
  Time head = 0;
  for (int stage = 0; stage < num_stages; ++stage) {
    Time end = head;
    while (layer < least.work.size() && end + micro_batches * least.work[layer] <= limit) {
      end += micro_batches * least.work[layer];
      // No more than the layer's work, so that taking it is never worse than leaving it.
      head += std::min(least.forward[layer], micro_batches * least.work[layer]);
      ++layer;
    }
  }
  return layer == least.work.size();
}

Time stage_bound(const Placement& placement, const Least& least, Time most) {
  const std::int64_t micro_batches = placement.direction(0).num_micro_batches;
  Time low = 0;  // too little
  for (Time high = most; high - low > 1;) {
    const Time middle = low + (high - low) / 2;
    (stages_end_by(middle, least, micro_batches, placement.num_stages()) ? high : low) = middle;
    if (high - low <= 1) return high;
  }
  return most;
}

}  // namespace

CostModel stages_of(const CostModel& model, const Placement& placement, const Split& split) {
  CostModel costs = model;
  costs.layers.clear();
  costs.overlap.reset();
  costs.overlaps.clear();
  costs.stages.assign(split.size(), StageCost{.f = 0, .i = 0, .w = 0});
  std::vector<int> begin;
  int layer = 0;
  for (std::size_t stage = 0; stage < split.size(); ++stage) {
    begin.push_back(layer);
    for (int i = 0; i < split[stage]; ++i) add(costs.stages[stage], model.layers[layer++]);
  }
  if (!has_pairs(model)) return costs;
  for (int rank = 0; rank < placement.num_ranks(); ++rank) {
    const std::vector<std::int32_t> stages = placement.stages_on(rank);
    for (const std::int32_t forward : stages) {
      for (const std::int32_t backward : stages)
        costs.overlaps[{forward, backward}] = stage_pair_time(model, split, begin, forward, backward);
    }
  }
  return costs;
}

Time layers_bound(const CostModel& model, const Placement& placement) {
  const Least least(model);
  Time most = 1;
  for (const StageCost& layer : model.layers)
    most += (layer.f + layer.i + layer.w) * (placement.num_micro_batches() + 1);
  return std::max({work_bound(model, placement, least), way_bound(model, placement, least),
                   stage_bound(placement, least, most)});
}

}  // namespace counterflow::searching
