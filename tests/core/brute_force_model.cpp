#include "brute_force_model.h"

#include <algorithm>

namespace counterflow {
namespace {

char letter_of(PassKind kind) {
  switch (kind) {
    case PassKind::kForward:
      return 'F';
    case PassKind::kBackward:
      return 'B';
    case PassKind::kInputGradient:
      return 'I';
    case PassKind::kWeightGradient:
      return 'W';
  }
  return '?';
}

std::string text_of(char letter, int stage, int micro_batch) {
  return std::to_string(stage) + letter + std::to_string(micro_batch);
}

}  // namespace

bool BruteForceModel::exists(const Pass& pass) const {
  const auto& directions = schedule_.placement.directions();
  int stages = 0;
  int micro_batches = 0;
  for (const Direction& direction : directions) {
    stages = static_cast<int>(direction.rank_of_stage.size());
    micro_batches += direction.num_micro_batches;
  }
  return pass.stage >= 0 && pass.stage < stages && pass.micro_batch >= 0 && pass.micro_batch < micro_batches;
}

int BruteForceModel::rank_of(int stage, int micro_batch) const {
  for (const Direction& direction : schedule_.placement.directions()) {
    const int offset = micro_batch - direction.first_micro_batch;
    if (offset >= 0 && offset < direction.num_micro_batches) return direction.rank_of_stage[stage];
  }
  return -1;
}

// --- What has to be done, where and in which order ---

void BruteForceModel::check_pass_counts(std::vector<Breach>& broken) const {
  std::map<Thing, int> count;
  for (const auto& actions : schedule_.actions) {
    for (const Action& action : actions) {
      for (const Pass& pass : action.passes()) {
        ++count[{letter_of(pass.kind), pass.stage, pass.micro_batch}];
        const bool belongs = schedule_.passes == Passes::kTraining || pass.kind == PassKind::kForward;
        if (!exists(pass) || !belongs) broken.push_back({"unknown-action", to_string(pass)});
      }
    }
  }
  for (const auto& [thing, times] : count) {
    const auto [letter, stage, micro_batch] = thing;
    if (times > 1) broken.push_back({"duplicate-action", text_of(letter, stage, micro_batch)});
  }
  for (const Direction& direction : schedule_.placement.directions()) {
    for (int i = 0; i < direction.num_micro_batches; ++i) {
      for (int stage = 0; stage < static_cast<int>(direction.rank_of_stage.size()); ++stage)
        check_cell(count, stage, direction.first_micro_batch + i, broken);
    }
  }
}

// One micro-batch at one stage: F, and for training either B or both I and W.
void BruteForceModel::check_cell(const std::map<Thing, int>& count, int stage, int micro_batch,
                                 std::vector<Breach>& broken) const {
  const auto has = [&](char letter) { return count.contains({letter, stage, micro_batch}); };
  const auto missing = [&](char letter) {
    broken.push_back({"missing-action", text_of(letter, stage, micro_batch)});
  };
  if (!has('F')) missing('F');
  if (schedule_.passes == Passes::kForward) return;
  if (has('B') && (has('I') || has('W')))
    broken.push_back({"mixed-backward", text_of('B', stage, micro_batch)});
  if (!has('B') && !has('I')) missing('I');
  if (!has('B') && !has('W')) missing('W');
}

void BruteForceModel::check_places(std::vector<Breach>& broken) const {
  for (int rank = 0; rank < static_cast<int>(schedule_.actions.size()); ++rank) {
    for (const Action& action : schedule_.actions[rank]) {
      for (const Pass& pass : action.passes()) {
        if (exists(pass) && rank_of(pass.stage, pass.micro_batch) != rank)
          broken.push_back({"wrong-rank", to_string(pass) + " on rank " + std::to_string(rank)});
      }
    }
  }
}

void BruteForceModel::check_orders(std::vector<Breach>& broken) const {
  for (const auto& actions : schedule_.actions) {
    std::set<Thing> done;
    for (const Action& action : actions) {
      const auto passes = action.passes();
      if (passes.size() == 2) {
        if (passes[0].kind != PassKind::kForward || passes[1].kind != PassKind::kBackward) {
          broken.push_back({"unknown-action", to_string(action)});
        } else if (passes[0].micro_batch == passes[1].micro_batch) {
          // The backwards of a micro-batch need all of its forwards.
          broken.push_back({"overlap-depends-on-itself", to_string(action)});
        }
      }
      for (const Pass& pass : passes) {
        if (pass.kind == PassKind::kForward) continue;
        const bool is_w = pass.kind == PassKind::kWeightGradient;
        if (!done.contains({is_w ? 'I' : 'F', pass.stage, pass.micro_batch}))
          broken.push_back({is_w ? "weight-before-input" : "backward-before-forward", to_string(action)});
      }
      // Only now, so that neither pass of a pair can do with what the other makes.
      for (const Pass& pass : passes) done.insert({letter_of(pass.kind), pass.stage, pass.micro_batch});
    }
  }
}

std::vector<BruteForceModel::Breach> BruteForceModel::broken_rules() const {
  std::vector<Breach> broken;
  check_pass_counts(broken);
  check_places(broken);
  check_orders(broken);
  return broken;
}

// --- Running ---

bool BruteForceModel::takes(const Pass& pass, int last_stage, Thing& input) {
  if (pass.kind == PassKind::kForward && pass.stage > 0) {
    input = {'F', pass.stage - 1, pass.micro_batch};
    return true;
  }
  if ((pass.kind == PassKind::kBackward || pass.kind == PassKind::kInputGradient) &&
      pass.stage < last_stage) {
    input = {'G', pass.stage + 1, pass.micro_batch};
    return true;
  }
  return false;
}

bool BruteForceModel::can_start(const State& state, int rank, const Action& action) const {
  const int last_stage = schedule_.placement.num_stages() - 1;
  const std::set<Thing>& made = state.made[rank];
  std::multiset<Thing> wanted;
  for (const Pass& pass : action.passes()) {
    if (!exists(pass)) return false;
    const Thing forward{'F', pass.stage, pass.micro_batch};
    const Thing gradient{'G', pass.stage, pass.micro_batch};
    if (pass.kind == PassKind::kWeightGradient && !made.contains(gradient)) return false;
    if (pass.kind != PassKind::kForward && !made.contains(forward)) return false;
    Thing input;
    if (!takes(pass, last_stage, input)) continue;
    const int from = rank_of(std::get<1>(input), pass.micro_batch);
    if (from == rank) {
      if (!made.contains(input)) return false;
    } else {
      wanted.insert(input);
      const auto link = state.links.find({from, rank});
      if (link == state.links.end() || link->second.received.count(input) < wanted.count(input)) return false;
    }
  }
  return true;
}

void BruteForceModel::finish(State& state, int rank, const Action& action) const {
  const int last_stage = schedule_.placement.num_stages() - 1;
  for (const Pass& pass : action.passes()) {
    Thing input;
    if (takes(pass, last_stage, input)) {
      const int from = rank_of(std::get<1>(input), pass.micro_batch);
      if (from != rank) {
        auto& received = state.links[{from, rank}].received;
        received.erase(received.find(input));
      }
    }
    if (pass.kind == PassKind::kWeightGradient) continue;
    const bool is_forward = pass.kind == PassKind::kForward;
    const Thing output{is_forward ? 'F' : 'G', pass.stage, pass.micro_batch};
    state.made[rank].insert(output);
    const int neighbour = is_forward ? pass.stage + 1 : pass.stage - 1;
    if (neighbour < 0 || neighbour > last_stage) continue;
    const int to = rank_of(neighbour, pass.micro_batch);
    if (to != rank) state.links[{rank, to}].outbox.push_back(output);
  }
}

BruteForceModel::State BruteForceModel::run(const Buffers& buffers) const {
  const int ranks = static_cast<int>(schedule_.actions.size());
  State state;
  state.next.resize(ranks);
  state.made.resize(ranks);
  for (bool moved = true; moved;) {
    moved = false;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto& actions = schedule_.actions[rank];
      while (state.next[rank] < actions.size() && can_start(state, rank, actions[state.next[rank]])) {
        finish(state, rank, actions[state.next[rank]]);
        ++state.next[rank];
        moved = true;
      }
    }
    for (auto& [link, content] : state.links) {
      const auto limit = buffers.find(link);
      const auto size = static_cast<std::size_t>(limit == buffers.end() ? kUnlimited : limit->second);
      while (!content.outbox.empty() && content.received.size() < size) {
        content.received.insert(content.outbox.front());
        content.outbox.pop_front();
        moved = true;
      }
    }
  }
  return state;
}

bool BruteForceModel::runs_to_end(const Buffers& buffers) const {
  const State state = run(buffers);
  for (std::size_t rank = 0; rank < state.next.size(); ++rank) {
    if (state.next[rank] != schedule_.actions[rank].size()) return false;
  }
  return true;
}

bool BruteForceModel::runs_to_end(int buffers_of_each_link) const {
  Buffers buffers;
  if (buffers_of_each_link != kUnlimited) {
    for (const Link& link : links_used()) buffers[link] = buffers_of_each_link;
  }
  return runs_to_end(buffers);
}

std::vector<BruteForceModel::Wait> BruteForceModel::waits_when_stuck() const {
  const State state = run({});
  std::vector<Wait> waits;
  for (int rank = 0; rank < static_cast<int>(schedule_.actions.size()); ++rank) {
    if (state.next[rank] == schedule_.actions[rank].size()) continue;
    for (const Pass& pass : schedule_.actions[rank][state.next[rank]].passes()) {
      Thing input;
      if (!exists(pass) || !takes(pass, schedule_.placement.num_stages() - 1, input)) continue;
      const auto [letter, stage, micro_batch] = input;
      const int from = rank_of(stage, micro_batch);
      if (!state.made[from].contains(input))
        waits.push_back({rank, text_of(letter, stage, micro_batch), from});
    }
  }
  return waits;
}

int BruteForceModel::shortest_circle() const {
  const std::vector<Wait> waits = waits_when_stuck();
  const int ranks = static_cast<int>(schedule_.actions.size());
  int shortest = 0;
  for (int start = 0; start < ranks; ++start) {
    std::set<int> reached{start};
    for (int length = 1; length <= ranks; ++length) {
      std::set<int> next;
      for (const Wait& wait : waits) {
        if (reached.contains(wait.rank)) next.insert(wait.from);
      }
      reached = next;
      if (reached.contains(start) && (shortest == 0 || length < shortest)) shortest = length;
    }
  }
  return shortest;
}

std::vector<BruteForceModel::Link> BruteForceModel::links_used() const {
  std::set<Link> links;
  for (const Direction& direction : schedule_.placement.directions()) {
    if (direction.num_micro_batches == 0) continue;
    for (std::size_t s = 1; s < direction.rank_of_stage.size(); ++s) {
      const int a = direction.rank_of_stage[s - 1];
      const int b = direction.rank_of_stage[s];
      if (a == b) continue;
      links.insert({a, b});
      if (schedule_.passes == Passes::kTraining) links.insert({b, a});
    }
  }
  return {links.begin(), links.end()};
}

BruteForceModel::Buffers BruteForceModel::least_buffers() const {
  Buffers least;
  for (const Link& link : links_used()) {
    int buffers = 1;
    while (!runs_to_end(Buffers{{link, buffers}})) ++buffers;
    least[link] = buffers;
  }
  return least;
}

int BruteForceModel::peak_activations() const {
  int peak = 0;
  for (const auto& actions : schedule_.actions) {
    std::set<Thing> held;
    for (const Action& action : actions) {
      for (const Pass& pass : action.passes()) {
        if (pass.kind == PassKind::kForward) held.insert({'F', pass.stage, pass.micro_batch});
      }
      peak = std::max(peak, static_cast<int>(held.size()));
      for (const Pass& pass : action.passes()) {
        const bool keeps = pass.kind == PassKind::kInputGradient ||
                           (pass.kind == PassKind::kForward && schedule_.passes == Passes::kTraining);
        if (!keeps) held.erase({'F', pass.stage, pass.micro_batch});
      }
    }
  }
  return peak;
}

}  // namespace counterflow
