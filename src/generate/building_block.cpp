#include "building_block.h"

#include <algorithm>
#include <deque>

namespace counterflow::generators {
namespace {

constexpr int kPeriod = BuildingBlock::kSlots;

/// What a rank holds: activations, and of these the ones that wait for their weight gradient only.
struct Held {
  int activations = 0;
  int waiting = 0;

  void run(const Pass& pass) { ++(pass.kind == PassKind::kForward ? activations : waiting); }

  /// Every idle slot runs a weight gradient if there is one.
  void idle(int slots) {
    const int run = std::min(slots, waiting);
    activations -= run;
    waiting -= run;
  }
};

/// The slots in which one rank runs F and I. W takes what is left, the oldest first.
class RankTable {
 public:
  /// Of activations.
  explicit RankTable(int limit) : limit_(limit) {}

  /// Puts a pass behind all others.
  void append(const Pass& pass, int slot) { insert(steps_.size(), pass, slot); }

  /// Puts a pass into the first idle slot from `from` on that keeps the rank within its limit until `own`,
  /// the slot that the pass has in the repeated block and that is idle. Returns the slot. No pass so far has
  /// a slot after `own`. Later ones need no look: from `own` on the rank holds no more than if the pass had
  /// stayed there, since as many slots were idle until then and its I came no later.
  int squeeze(const Pass& pass, int from, int own) {
    const auto first = std::lower_bound(steps_.begin(), steps_.end(), from,
                                        [](const Step& step, int slot) { return step.slot < slot; });
    std::size_t index = static_cast<std::size_t>(first - steps_.begin());
    int slot = from;
    for (; slot < own; ++slot) {
      if (index < steps_.size() && steps_[index].slot == slot) {
        ++index;
      } else if (is_within_limit(index, pass, slot)) {
        break;
      }
    }
    insert(index, pass, slot);
    return slot;
  }

  std::vector<Action> actions() const {
    std::vector<Action> actions;
    actions.reserve(steps_.size() * 3 / 2);
    std::deque<Pass> weight_store;
    const auto run_weight_gradients = [&](std::size_t most) {
      for (; most > 0 && !weight_store.empty(); --most) {
        actions.emplace_back(weight_store.front());
        weight_store.pop_front();
      }
    };
    int next_slot = 0;
    for (const Step& step : steps_) {
      run_weight_gradients(step.slot - next_slot);
      actions.emplace_back(step.pass);
      if (step.pass.kind == PassKind::kInputGradient) {
        weight_store.push_back(weight_gradient(step.pass.stage, step.pass.micro_batch));
      }
      next_slot = step.slot + 1;
    }
    run_weight_gradients(weight_store.size());
    return actions;
  }

 private:
  struct Step {
    int slot = 0;
    Pass pass;
    Held after;
  };

  /// What the rank holds after a pass in a slot before which `index` steps have run.
  Held after(std::size_t index, const Pass& pass, int slot) const {
    Held held;
    if (index > 0) {
      held = steps_[index - 1].after;
      held.idle(slot - steps_[index - 1].slot - 1);
    }
    held.run(pass);
    return held;
  }

  bool is_within_limit(std::size_t index, const Pass& pass, int slot) const {
    Held held = after(index, pass, slot);
    for (; index < steps_.size() && held.activations <= limit_; ++index) {
      held.idle(steps_[index].slot - slot - 1);
      held.run(steps_[index].pass);
      slot = steps_[index].slot;
    }
    return held.activations <= limit_;
  }

  void insert(std::size_t index, const Pass& pass, int slot) {
    steps_.insert(steps_.begin() + static_cast<std::ptrdiff_t>(index), Step{slot, pass, {}});
    for (; index < steps_.size(); ++index) {
      steps_[index].after = after(index, steps_[index].pass, steps_[index].slot);
    }
  }

  int limit_;
  std::vector<Step> steps_;  // by slot
};

/// The pass at a position of a micro-batch's way: F of stage 0 to the last, then I of the last to 0.
Pass pass_on_way(int position, int num_stages, int micro_batch) {
  return position < num_stages ? forward(position, micro_batch)
                               : input_gradient(2 * num_stages - 1 - position, micro_batch);
}

/// The most that a rank holds where the block repeats without end.
int steady_peak(const BuildingBlock& block, std::span<const std::int32_t> stages) {
  const int num_stages = static_cast<int>(block.slots.size()) / 2;
  const int full = block.slots.back() + 1;  // from this slot on every pass of the block is there
  std::vector<int> positions;
  for (const int stage : stages) {
    positions.push_back(stage);
    positions.push_back(2 * num_stages - 1 - stage);
  }

  // Without waiting weight gradients to begin with. Their number is right once it has been 0, in the first
  // period.
  Held held;
  for (const int position : positions) {
    const int runs = (full - block.slots[position] + kPeriod - 1) / kPeriod;
    held.activations += position < num_stages ? runs : -runs;
  }
  int peak = 0;
  for (int slot = full; slot < full + 2 * kPeriod; ++slot) {
    const auto position = std::find_if(positions.begin(), positions.end(),
                                       [&](int p) { return (slot - block.slots[p]) % kPeriod == 0; });
    if (position == positions.end()) {
      held.idle(1);
    } else {
      held.run(pass_on_way(*position, num_stages, 0));
    }
    peak = std::max(peak, held.activations);
  }
  return peak;
}

/// Where the repetition puts passes, and where they end up.
class Repetition {
 public:
  Repetition(const BuildingBlock& block, const Placement& placement)
      : block_(block),
        placement_(placement),
        micro_batches_(placement.num_micro_batches()),
        slot_of_(block.slots.size() * micro_batches_) {
    tables_.reserve(placement.num_ranks());
    for (int rank = 0; rank < placement.num_ranks(); ++rank) {
      tables_.emplace_back(steady_peak(block, placement.stages_on(rank, 0)));
    }
  }

  /// Goes through all passes in the order of their slots. Those in the middle stay, the others move to the
  /// first idle slot after what they wait for.
  void squeeze() {
    const int last_enters = kPeriod * (micro_batches_ - 1);
    int first = 0;  // the positions that a micro-batch may have in the slot: [first, end)
    int end = 0;
    const int num_positions = static_cast<int>(block_.slots.size());
    for (int slot = 0; slot <= block_.slots.back() + last_enters; ++slot) {
      while (end < num_positions && block_.slots[end] <= slot) ++end;
      while (block_.slots[first] + last_enters < slot) ++first;
      const bool stays = slot >= block_.settled && slot < last_enters;
      for (int position = first; position < end; ++position) {
        const int since = slot - block_.slots[position];
        if (since % kPeriod == 0) place(position, since / kPeriod, slot, stays);
      }
    }
  }

  std::vector<std::vector<Action>> actions() const {
    std::vector<std::vector<Action>> actions;
    actions.reserve(tables_.size());
    for (const RankTable& table : tables_) actions.push_back(table.actions());
    return actions;
  }

 private:
  void place(int position, int micro_batch, int slot, bool stays) {
    const Pass pass = pass_on_way(position, placement_.num_stages(), micro_batch);
    RankTable& table = tables_[placement_.rank_of(pass.stage, micro_batch)];
    if (stays) {
      table.append(pass, slot);
    } else {
      slot = table.squeeze(pass, ready(position, micro_batch), slot);
    }
    slot_of(position, micro_batch) = slot;
  }

  /// The first slot after the pass before on the micro-batch's way, and after this one of the micro-batch
  /// before.
  int ready(int position, int micro_batch) {
    const int after_way = position == 0 ? 0 : slot_of(position - 1, micro_batch) + 1;
    const int after_micro_batch = micro_batch == 0 ? 0 : slot_of(position, micro_batch - 1) + 1;
    return std::max(after_way, after_micro_batch);
  }

  int& slot_of(int position, int micro_batch) {
    return slot_of_[static_cast<std::size_t>(position) * micro_batches_ + micro_batch];
  }

  const BuildingBlock& block_;
  const Placement& placement_;
  int micro_batches_;
  std::vector<RankTable> tables_;
  std::vector<int> slot_of_;
};

}  // namespace

std::vector<std::vector<Action>> repeat_and_squeeze(const BuildingBlock& block, const Placement& placement) {
  Repetition repetition(block, placement);
  repetition.squeeze();
  return repetition.actions();
}

}  // namespace counterflow::generators
