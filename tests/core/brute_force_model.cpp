#include "brute_force_model.h"

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

void BruteForceModel::check_pass_counts(std::vector<std::string>& broken) const {
  std::map<Thing, int> count;
  for (const auto& actions : schedule_.actions) {
    for (const Action& action : actions) {
      for (const Pass& pass : action.passes()) {
        ++count[{letter_of(pass.kind), pass.stage, pass.micro_batch}];
        if (!exists(pass)) broken.push_back("there is no stage or micro-batch of " + to_string(pass));
      }
    }
  }
  for (const Direction& direction : schedule_.placement.directions()) {
    for (int i = 0; i < direction.num_micro_batches; ++i) {
      const int m = direction.first_micro_batch + i;
      for (int s = 0; s < static_cast<int>(direction.rank_of_stage.size()); ++s) {
        const int f = count[{'F', s, m}];
        const int b = count[{'B', s, m}];
        const int in = count[{'I', s, m}];
        const int w = count[{'W', s, m}];
        if (f != 1) broken.push_back(text_of('F', s, m) + " runs " + std::to_string(f) + " times");
        const bool full = b == 1 && in == 0 && w == 0;
        const bool split = b == 0 && in == 1 && w == 1;
        const bool none = b == 0 && in == 0 && w == 0;
        const bool right = schedule_.passes == Passes::kForward ? none : full || split;
        if (!right) broken.push_back("the backward of " + text_of('F', s, m) + " is not run as it should");
      }
    }
  }
}

void BruteForceModel::check_places(std::vector<std::string>& broken) const {
  for (int rank = 0; rank < static_cast<int>(schedule_.actions.size()); ++rank) {
    for (const Action& action : schedule_.actions[rank]) {
      for (const Pass& pass : action.passes()) {
        if (exists(pass) && rank_of(pass.stage, pass.micro_batch) != rank)
          broken.push_back(to_string(pass) + " is on rank " + std::to_string(rank));
      }
    }
  }
}

void BruteForceModel::check_orders(std::vector<std::string>& broken) const {
  for (const auto& actions : schedule_.actions) {
    std::set<Thing> done;
    for (const Action& action : actions) {
      const auto passes = action.passes();
      const bool proper_pair =
          passes.size() == 2 && passes[0].kind == PassKind::kForward && passes[1].kind == PassKind::kBackward;
      if (passes.size() != 1 && !proper_pair) broken.push_back(to_string(action) + " is no pair of F and B");
      for (const Pass& pass : passes) {
        const bool is_w = pass.kind == PassKind::kWeightGradient;
        const Thing before{is_w ? 'I' : 'F', pass.stage, pass.micro_batch};
        if (pass.kind != PassKind::kForward && !done.contains(before))
          broken.push_back(to_string(action) + " runs before what it needs of its own stage");
      }
      // Only now, so that neither pass of a pair can do with what the other makes.
      for (const Pass& pass : passes) done.insert({letter_of(pass.kind), pass.stage, pass.micro_batch});
    }
  }
}

std::vector<std::string> BruteForceModel::broken_rules() const {
  std::vector<std::string> broken;
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

bool BruteForceModel::runs_to_end(const Buffers& buffers) const {
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
  for (int rank = 0; rank < ranks; ++rank) {
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
