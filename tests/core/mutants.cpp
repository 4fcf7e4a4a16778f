#include "mutants.h"

#include <array>

namespace counterflow {
namespace {

// Copies and moves, to every place on every rank.
void add_places(const Schedule& schedule, Mutation::Kind kind, int rank, int step,
                std::vector<Mutation>& out) {
  const bool moves = kind == Mutation::Kind::kMove;
  for (int to = 0; to < static_cast<int>(schedule.actions.size()); ++to) {
    const int places = static_cast<int>(schedule.actions[to].size()) + (moves && to == rank ? 0 : 1);
    for (int place = 0; place < places; ++place) {
      // Where it was, and next to it, which is a swap.
      if (moves && to == rank && place >= step - 1 && place <= step + 1) continue;
      Mutation mutation{kind, rank, step};
      mutation.rank_to = to;
      mutation.step_to = place;
      out.push_back(mutation);
    }
  }
}

// The pass as every other kind, and with every other stage and micro-batch, one beyond the ends too.
void add_other_passes(const Schedule& schedule, int rank, int step, std::vector<Mutation>& out) {
  const auto passes = schedule.actions[rank][step].passes();
  for (int i = 0; i < static_cast<int>(passes.size()); ++i) {
    const auto add = [&](Mutation::Kind kind, const Pass& becomes) {
      if (becomes == passes[i]) return;
      Mutation mutation{kind, rank, step};
      mutation.pass = i;
      mutation.becomes = becomes;
      out.push_back(mutation);
    };
    for (const PassKind kind :
         {PassKind::kForward, PassKind::kBackward, PassKind::kInputGradient, PassKind::kWeightGradient}) {
      add(Mutation::Kind::kRetype, {passes[i].stage, passes[i].micro_batch, kind});
    }
    for (int stage = -1; stage <= schedule.num_stages(); ++stage)
      add(Mutation::Kind::kRename, {stage, passes[i].micro_batch, passes[i].kind});
    for (int micro_batch = -1; micro_batch <= schedule.num_micro_batches(); ++micro_batch)
      add(Mutation::Kind::kRename, {passes[i].stage, micro_batch, passes[i].kind});
  }
}

Action with_pass(const Action& action, int index, const Pass& becomes) {
  if (!action.is_overlap()) return becomes;
  const auto passes = action.passes();
  return index == 0 ? Action::overlap(becomes, passes[1]) : Action::overlap(passes[0], becomes);
}

}  // namespace

std::vector<Mutation> all_mutations(const Schedule& schedule) {
  using Kind = Mutation::Kind;
  std::vector<Mutation> out;
  for (int rank = 0; rank < static_cast<int>(schedule.actions.size()); ++rank) {
    const auto& actions = schedule.actions[rank];
    const int size = static_cast<int>(actions.size());
    for (int step = 0; step < size; ++step) {
      out.push_back({Kind::kDrop, rank, step});
      add_places(schedule, Kind::kDuplicate, rank, step, out);
      add_places(schedule, Kind::kMove, rank, step, out);
      for (int with = step + 1; with < size; ++with) {
        Mutation mutation{Kind::kSwap, rank, step};
        mutation.step_to = with;
        out.push_back(mutation);
      }
      add_other_passes(schedule, rank, step, out);
      if (actions[step].is_overlap()) {
        out.push_back({Kind::kSplit, rank, step});
        out.push_back({Kind::kSplit, rank, step});
        out.back().backward_first = true;
      } else if (step + 1 < size && !actions[step + 1].is_overlap()) {
        out.push_back({Kind::kMerge, rank, step});
      }
    }
  }
  return out;
}

Schedule Mutation::apply(const Schedule& original) const {
  Schedule mutant = original;
  auto& actions = mutant.actions[rank];
  const Action action = actions[step];
  switch (kind) {
    case Kind::kDrop:
      actions.erase(actions.begin() + step);
      break;
    case Kind::kMove:
      actions.erase(actions.begin() + step);
      [[fallthrough]];
    case Kind::kDuplicate: {
      auto& other = mutant.actions[rank_to];
      other.insert(other.begin() + step_to, action);
      break;
    }
    case Kind::kSwap:
      std::swap(actions[step], actions[step_to]);
      break;
    case Kind::kRetype:
    case Kind::kRename:
      actions[step] = with_pass(action, pass, becomes);
      break;
    case Kind::kSplit: {
      const std::array<Pass, 2> passes{action.passes()[0], action.passes()[1]};
      actions[step] = passes[backward_first ? 1 : 0];
      actions.insert(actions.begin() + step + 1, passes[backward_first ? 0 : 1]);
      break;
    }
    case Kind::kMerge: {
      // The forward goes first, as it has to, where there is just one.
      Pass first = action.passes()[0];
      Pass second = actions[step + 1].passes()[0];
      if (first.kind != PassKind::kForward) std::swap(first, second);
      actions[step] = Action::overlap(first, second);
      actions.erase(actions.begin() + step + 1);
      break;
    }
  }
  return mutant;
}

std::string Mutation::text(const Schedule& original) const {
  const Action& action = original.actions[rank][step];
  const std::string what =
      to_string(action) + " (rank " + std::to_string(rank) + " step " + std::to_string(step) + ")";
  const std::string to = "rank " + std::to_string(rank_to) + " step " + std::to_string(step_to);
  switch (kind) {
    case Kind::kDrop:
      return "drop " + what;
    case Kind::kDuplicate:
      return "copy " + what + " to " + to;
    case Kind::kMove:
      return "move " + what + " to " + to;
    case Kind::kSwap:
      return "swap " + what + " with step " + std::to_string(step_to);
    case Kind::kRetype:
    case Kind::kRename:
      return "make " + to_string(action.passes()[pass]) + " of " + what + " " + to_string(becomes);
    case Kind::kSplit:
      return std::string("split ") + what + (backward_first ? ", the backward first" : "");
    case Kind::kMerge:
      return "merge " + what + " with the next";
  }
  return {};
}

}  // namespace counterflow
