#include "deadlock.h"

#include <algorithm>
#include <queue>

#include "dataflow.h"

namespace counterflow {
namespace {

/// The messages that were produced before the ranks stopped.
class Produced {
 public:
  Produced(const Schedule& schedule, const std::vector<std::size_t>& finished)
      : num_micro_batches_(schedule.num_micro_batches()),
        cells_(std::size_t{2} * schedule.num_stages() * schedule.num_micro_batches(), false) {
    for (std::size_t rank = 0; rank < finished.size(); ++rank) {
      for (std::size_t step = 0; step < finished[rank]; ++step) {
        for (const Pass& pass : schedule.actions[rank][step].passes()) {
          const auto output = output_of(pass, schedule.num_stages());
          if (output) cells_[cell(*output)] = true;
        }
      }
    }
  }

  bool has(const Message& message) const { return cells_[cell(message)]; }

 private:
  std::size_t cell(const Message& message) const {
    return 2 * (message.stage * num_micro_batches_ + message.micro_batch) + (message.is_gradient ? 1 : 0);
  }

  std::size_t num_micro_batches_;
  std::vector<bool> cells_;  // [stage][micro-batch][is gradient]
};

/// A pass that produces a message; spell() tells whether the gradient comes from B or I.
Pass producer(const Message& message) {
  return message.is_gradient ? backward(message.stage, message.micro_batch)
                             : forward(message.stage, message.micro_batch);
}

/// The pass as its rank's list, of which so many are finished, spells it. Looks through the whole list.
Pass spell(const Schedule& schedule, const Pass& pass, int rank, std::size_t finished) {
  const auto message = output_of(pass, schedule.num_stages());
  for (std::size_t step = finished; step < schedule.actions[rank].size(); ++step) {
    for (const Pass& one : schedule.actions[rank][step].passes()) {
      if (output_of(one, schedule.num_stages()) == message) return one;
    }
  }
  return pass;
}

/// What a stuck rank waits for: the inputs of its action whose producers have not run.
std::vector<Wait> waits_of(const Schedule& schedule, const Produced& produced, int rank, std::size_t step) {
  std::vector<Wait> waits;
  for (const Pass& pass : schedule.actions[rank][step].passes()) {
    const auto input = input_of(pass, schedule.num_stages());
    if (input && !produced.has(*input))
      waits.push_back({rank, step, producer(*input), producer_rank(schedule.placement, *input)});
  }
  return waits;
}

/// A circle that is found by following each rank's first wait.
std::vector<Wait> any_cycle(const std::vector<std::vector<Wait>>& waits, int start) {
  std::vector<std::size_t> place(waits.size(), waits.size());
  std::vector<Wait> path;
  int rank = start;
  while (place[rank] == waits.size()) {
    place[rank] = path.size();
    path.push_back(waits[rank].front());
    rank = path.back().for_rank;
  }
  return {path.begin() + static_cast<std::ptrdiff_t>(place[rank]), path.end()};
}

/// The shortest circle through one rank; empty where there is none. Adds what it cost to `visits`.
std::vector<Wait> cycle_through(const std::vector<std::vector<Wait>>& waits, int start,
                                std::int64_t& visits) {
  std::vector<const Wait*> reached_by(waits.size(), nullptr);
  visits += static_cast<std::int64_t>(waits.size());
  std::queue<int> frontier({start});
  while (!frontier.empty() && reached_by[start] == nullptr) {
    const int rank = frontier.front();
    frontier.pop();
    for (const Wait& wait : waits[rank]) {
      if (reached_by[wait.for_rank] != nullptr) continue;
      reached_by[wait.for_rank] = &wait;
      frontier.push(wait.for_rank);
    }
  }
  std::vector<Wait> cycle;
  if (reached_by[start] == nullptr) return cycle;
  int rank = start;
  do {
    cycle.push_back(*reached_by[rank]);
    rank = cycle.back().rank;
  } while (rank != start);
  std::reverse(cycle.begin(), cycle.end());
  return cycle;
}

}  // namespace

std::vector<Wait> shortest_cycle(const Schedule& schedule, const std::vector<std::size_t>& finished) {
  const int num_ranks = schedule.num_ranks();
  const Produced produced(schedule, finished);
  std::vector<std::vector<Wait>> waits(num_ranks);
  for (int rank = 0; rank < num_ranks; ++rank) {
    if (finished[rank] < schedule.actions[rank].size())
      waits[rank] = waits_of(schedule, produced, rank, finished[rank]);
  }

  const auto stuck = std::find_if(waits.begin(), waits.end(), [](const auto& list) { return !list.empty(); });
  if (stuck == waits.end()) return {};
  std::vector<Wait> shortest = any_cycle(waits, static_cast<int>(stuck - waits.begin()));

  // A breadth-first search from each stuck rank back to itself, as long as that stays cheap: a hostile file
  // may have tens of thousands of ranks in one circle.
  constexpr std::int64_t kMostVisits = 50'000'000;
  std::int64_t visits = 0;
  for (int start = 0; start < num_ranks && shortest.size() > 1 && visits < kMostVisits; ++start) {
    if (waits[start].empty()) continue;
    std::vector<Wait> cycle = cycle_through(waits, start, visits);
    if (!cycle.empty() && cycle.size() < shortest.size()) shortest = std::move(cycle);
  }
  // Of the circle alone: looking for every rank's would take ranks x actions.
  for (Wait& wait : shortest)
    wait.for_pass = spell(schedule, wait.for_pass, wait.for_rank, finished[wait.for_rank]);
  return shortest;
}

std::string describe(const Schedule& schedule, const std::vector<Wait>& cycle) {
  constexpr std::size_t kMost = 64;  // spelt out, of a circle that may hold every rank
  std::string text;
  for (std::size_t i = 0; i < cycle.size(); ++i) {
    if (i == kMost - 1 && cycle.size() > kMost) {
      text += ", which … (" + std::to_string(cycle.size() - kMost) + " more ranks)";
      i = cycle.size() - 1;
    }
    const Wait& wait = cycle[i];
    text += text.empty() ? "rank " + std::to_string(wait.rank) : ", which";
    text += " (at " + to_string(schedule.actions[wait.rank][wait.step]) + ") waits for " +
            to_string(wait.for_pass) + " from rank " + std::to_string(wait.for_rank);
  }
  return text;
}

}  // namespace counterflow
