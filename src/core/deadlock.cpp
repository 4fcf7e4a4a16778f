#include "deadlock.h"

#include <algorithm>
#include <queue>

#include "dataflow.h"

namespace counterflow {
namespace {

/// The pass that would produce a message, as its rank's list spells it (B or I).
Pass producer(const Schedule& schedule, int rank, std::size_t from_step, const Message& message) {
  for (std::size_t step = from_step; step < schedule.actions[rank].size(); ++step) {
    for (const Pass& pass : schedule.actions[rank][step].passes()) {
      if (output_of(pass, schedule.num_stages()) == message) return pass;
    }
  }
  return message.is_gradient ? backward(message.stage, message.micro_batch)
                             : forward(message.stage, message.micro_batch);
}

/// What a stuck rank waits for: the inputs of its action whose producers have not run.
std::vector<Wait> waits_of(const Schedule& schedule, const std::vector<std::size_t>& finished, int rank) {
  std::vector<Wait> waits;
  const std::size_t step = finished[rank];
  for (const Pass& pass : schedule.actions[rank][step].passes()) {
    const auto input = input_of(pass, schedule.num_stages());
    if (!input) continue;
    const int from = producer_rank(schedule.placement, *input);
    bool has_run = false;
    for (std::size_t done = 0; done < finished[from] && !has_run; ++done) {
      for (const Pass& other : schedule.actions[from][done].passes()) {
        has_run = has_run || output_of(other, schedule.num_stages()) == input;
      }
    }
    if (!has_run) waits.push_back({rank, step, producer(schedule, from, finished[from], *input), from});
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
  std::vector<std::vector<Wait>> waits(num_ranks);
  for (int rank = 0; rank < num_ranks; ++rank) {
    if (finished[rank] < schedule.actions[rank].size()) waits[rank] = waits_of(schedule, finished, rank);
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
  return shortest;
}

std::string describe(const Schedule& schedule, const std::vector<Wait>& cycle) {
  std::string text;
  for (const Wait& wait : cycle) {
    text += text.empty() ? "rank " + std::to_string(wait.rank) : ", which";
    text += " (at " + to_string(schedule.actions[wait.rank][wait.step]) + ") waits for " +
            to_string(wait.for_pass) + " from rank " + std::to_string(wait.for_rank);
  }
  return text;
}

}  // namespace counterflow
