#include "building_block.h"

#include <algorithm>
#include <deque>

namespace counterflow::generators {
namespace {

constexpr Pass kIdle{-1, -1, PassKind::kForward};

/// One rank's F and I by slot. Every idle slot runs the oldest weight gradient there is, so what the rank
/// holds follows from the slots.
class RankTable {
 public:
  explicit RankTable(std::size_t num_slots) : slots_(num_slots, kIdle), after_(num_slots) {}

  const Pass& at(int slot) const { return slots_[slot]; }
  bool is_idle(int slot) const { return slots_[slot] == kIdle; }
  void put(int slot, const Pass& pass) { slots_[slot] = pass; }

  /// Brings the states up to date after put(); returns the most activations held.
  int count() {
    int peak = 0;
    State state;
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
      after_[slot] = state = step(state, slots_[slot]);
      peak = std::max(peak, state.held);
    }
    return peak;
  }

  /// Moves a pass to an idle slot before its own unless the rank would hold more than `limit` in between.
  /// From its old slot on the rank never holds more than it did: as many slots are idle, no W comes later.
  bool move_earlier(int from, int to, int limit) {
    State state = before(to);
    for (int slot = to; slot <= from; ++slot) {
      state = step(state, slot == to ? slots_[from] : slot == from ? kIdle : slots_[slot]);
      if (state.held > limit) return false;
    }
    std::swap(slots_[from], slots_[to]);
    state = before(to);
    for (std::size_t slot = to; slot < slots_.size(); ++slot) {
      state = step(state, slots_[slot]);
      if (static_cast<int>(slot) > from && state == after_[slot]) break;
      after_[slot] = state;
    }
    return true;
  }

  std::vector<Action> actions() const {
    std::vector<Action> actions;
    std::deque<Pass> weight_store;
    const auto weight_gradient = [&] {
      actions.emplace_back(weight_store.front());
      weight_store.pop_front();
    };
    for (const Pass& pass : slots_) {
      if (!(pass == kIdle)) actions.emplace_back(pass);
      if (pass == kIdle && !weight_store.empty()) weight_gradient();
      if (pass.kind == PassKind::kInputGradient) {
        weight_store.push_back({pass.stage, pass.micro_batch, PassKind::kWeightGradient});
      }
    }
    while (!weight_store.empty()) weight_gradient();
    return actions;
  }

 private:
  /// Activations held and weight gradients waiting.
  struct State {
    int held = 0;
    int waiting = 0;

    friend bool operator==(const State&, const State&) = default;
  };

  static State step(State state, const Pass& pass) {
    if (pass == kIdle) {
      const int run = state.waiting > 0 ? 1 : 0;
      return {state.held - run, state.waiting - run};
    }
    if (pass.kind == PassKind::kForward) return {state.held + 1, state.waiting};
    return {state.held, state.waiting + 1};
  }

  State before(int slot) const { return slot == 0 ? State{} : after_[slot - 1]; }

  std::vector<Pass> slots_;
  std::vector<State> after_;  // [slot]
};

/// The pass at a position of a micro-batch's way: F of stage 0 to the last, then I of the last to 0.
Pass pass_on_way(int position, int num_stages, int micro_batch) {
  return position < num_stages ? forward(position, micro_batch)
                               : input_gradient(2 * num_stages - 1 - position, micro_batch);
}

int position_on_way(const Pass& pass, int num_stages) {
  return pass.kind == PassKind::kForward ? pass.stage : 2 * num_stages - 1 - pass.stage;
}

std::vector<RankTable> repeat(const BuildingBlock& block, const Placement& placement, int micro_batches) {
  const int last = block.slots.back() + BuildingBlock::kSlots * (micro_batches - 1);
  std::vector<RankTable> tables(placement.num_ranks(), RankTable(static_cast<std::size_t>(last) + 1));
  for (std::size_t position = 0; position < block.slots.size(); ++position) {
    for (int n = 0; n < micro_batches; ++n) {
      const Pass pass = pass_on_way(static_cast<int>(position), placement.num_stages(), n);
      tables[placement.rank_of(pass.stage, 0)].put(block.slots[position] + BuildingBlock::kSlots * n, pass);
    }
  }
  return tables;
}

/// The most that each rank holds where the block repeats without end: until the first micro-batch is done.
std::vector<int> limits(const BuildingBlock& block, const Placement& placement) {
  std::vector<int> limits;
  for (RankTable& table : repeat(block, placement, block.slots.back() / BuildingBlock::kSlots + 2)) {
    limits.push_back(table.count());
  }
  return limits;
}

/// Moves each pass, in the order of their slots, to the first idle slot after what it waits for.
class Squeeze {
 public:
  Squeeze(const BuildingBlock& block, const Placement& placement, std::vector<RankTable>& tables)
      : num_stages_(placement.num_stages()),
        micro_batches_(placement.num_micro_batches()),
        limits_(limits(block, placement)),
        tables_(tables),
        slot_of_(block.slots.size() * micro_batches_) {
    for (std::size_t position = 0; position < block.slots.size(); ++position) {
      for (int n = 0; n < micro_batches_; ++n) {
        slot_of_[position * micro_batches_ + n] = block.slots[position] + BuildingBlock::kSlots * n;
      }
    }
  }

  void run(int slot) {
    for (std::size_t rank = 0; rank < tables_.size(); ++rank) {
      RankTable& table = tables_[rank];
      if (table.is_idle(slot)) continue;
      const std::size_t index = index_of(table.at(slot));
      for (int to = ready(index); to < slot; ++to) {
        if (!table.is_idle(to) || !table.move_earlier(slot, to, limits_[rank])) continue;
        slot_of_[index] = to;
        break;
      }
    }
  }

 private:
  std::size_t index_of(const Pass& pass) const {
    return static_cast<std::size_t>(position_on_way(pass, num_stages_)) * micro_batches_ + pass.micro_batch;
  }

  /// The first slot after the micro-batch's pass before this one and after this pass of the micro-batch
  /// before.
  int ready(std::size_t index) const {
    const bool is_first = index < static_cast<std::size_t>(micro_batches_);
    const int after_stage = is_first ? 0 : slot_of_[index - micro_batches_] + 1;
    const int after_micro_batch = index % micro_batches_ == 0 ? 0 : slot_of_[index - 1] + 1;
    return std::max(after_stage, after_micro_batch);
  }

  int num_stages_;
  int micro_batches_;
  std::vector<int> limits_;
  std::vector<RankTable>& tables_;
  std::vector<int> slot_of_;  // [position * micro-batches + micro-batch]
};

}  // namespace

std::vector<std::vector<Action>> repeat_and_squeeze(const BuildingBlock& block, const Placement& placement) {
  const int micro_batches = placement.num_micro_batches();
  std::vector<RankTable> tables = repeat(block, placement, micro_batches);
  for (RankTable& table : tables) table.count();

  const int last_enters = BuildingBlock::kSlots * (micro_batches - 1);
  const int num_slots = block.slots.back() + last_enters + 1;
  Squeeze squeeze(block, placement, tables);
  for (int slot = 0; slot < num_slots; ++slot) {
    if (slot < block.settled || slot >= last_enters) squeeze.run(slot);
  }

  std::vector<std::vector<Action>> actions;
  actions.reserve(tables.size());
  for (const RankTable& table : tables) actions.push_back(table.actions());
  return actions;
}

}  // namespace counterflow::generators
