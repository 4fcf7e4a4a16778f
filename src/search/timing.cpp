#include "timing.h"

#include <algorithm>

namespace counterflow::searching {

Timing::Timing(const Problem& problem)
    : problem_(problem),
      evaluator_(problem),
      nodes_(problem.num_ranks()),
      position_(static_cast<std::size_t>(problem.num_hops()) * problem.num_micro_batches()),
      next_k_(problem.num_hops(), -1) {}

Time Timing::settle(const Order& order) {
  for (int rank = 0; rank < problem_.num_ranks(); ++rank) nodes_[rank].resize(order[rank].size());
  sequence_.clear();
  makespan_ = evaluator_.walk(
      order, [this](int rank, std::size_t position, const StepType& type, Time start, Time end) {
        Node& node = nodes_[rank][position];
        node.start = start;
        node.end = end;
        const auto place = static_cast<std::int32_t>(position);
        if (type.hop >= 0) position_[cell(type.hop, node.k = evaluator_.micro_batch(type.hop))] = place;
        if (type.second_hop >= 0)
          position_[cell(type.second_hop, node.second_k = evaluator_.micro_batch(type.second_hop))] = place;
        sequence_.push_back({rank, place});
      });
  if (makespan_ >= kNever) return kNever;
  find_tails(order);
  find_path(order);
  return makespan_;
}

Time Timing::after_output(int hop, int k, const Order& order) const {
  if (hop + 1 == problem_.num_hops()) return 0;
  const int rank = problem_.rank_of_hop(hop + 1);
  const std::int32_t position = position_[cell(hop + 1, k)];
  return problem_.transfer(hop).delay + problem_.type(order[rank][position]).duration +
         nodes_[rank][position].tail;
}

void Timing::find_tails(const Order& order) {
  for (auto place = sequence_.rbegin(); place != sequence_.rend(); ++place) {
    const std::vector<Step>& steps = order[place->rank];
    std::vector<Node>& nodes = nodes_[place->rank];
    const std::size_t position = place->position;
    const StepType& type = problem_.type(steps[position]);
    Node& node = nodes[position];
    node.after_outputs = 0;
    if (type.hop >= 0) node.after_outputs = after_output(type.hop, node.k, order);
    if (type.second_hop >= 0)
      node.after_outputs = std::max(node.after_outputs, after_output(type.second_hop, node.second_k, order));
    node.tail = node.after_outputs;
    if (position + 1 < steps.size())
      node.tail = std::max(node.tail, problem_.type(steps[position + 1]).duration + nodes[position + 1].tail);
  }
}

void Timing::find_path(const Order& order) {
  path_.clear();
  Place place;
  for (int rank = 0; rank < problem_.num_ranks(); ++rank) {
    if (!nodes_[rank].empty() && nodes_[rank].back().end == makespan_)
      place = {rank, static_cast<std::int32_t>(nodes_[rank].size()) - 1};
  }
  do {
    path_.push_back(place);
  } while (step_back(problem_.type(order[place.rank][place.position]), place));
}

// To what made a step start no earlier; false where nothing did.
bool Timing::step_back(const StepType& type, Place& place) const {
  const Node& node = nodes_[place.rank][place.position];
  if (node.start == 0) return false;
  if (place.position > 0 && nodes_[place.rank][place.position - 1].end == node.start) {
    --place.position;
    return true;
  }
  const auto follow = [&](int hop, int k) {
    if (hop <= 0 || evaluator_.arrival(hop, k) != node.start) return false;
    place = {problem_.rank_of_hop(hop - 1), position_[cell(hop - 1, k)]};
    return true;
  };
  return follow(type.hop, node.k) || follow(type.second_hop, node.second_k);
}

Time Timing::estimate(const Order& order, const Change& change) {
  const std::vector<Step>& steps = order[change.rank];
  const std::vector<Node>& nodes = nodes_[change.rank];
  const std::size_t last = change.first + change.size;
  for (std::size_t position = last; position-- > change.first;) {
    const StepType& type = problem_.type(steps[position]);
    if (type.hop >= 0) next_k_[type.hop] = nodes[position].k;
    if (type.second_hop >= 0) next_k_[type.second_hop] = nodes[position].second_k;
  }
  moved_.clear();
  Time end = change.first == 0 ? 0 : nodes[change.first - 1].end;
  // Within the change a step may need one of the same rank: a turn of the pipeline.
  const auto arrival = [&](int hop, int k) -> Time {
    if (hop > 0 && problem_.rank_of_hop(hop - 1) == change.rank) {
      const auto position = static_cast<std::size_t>(position_[cell(hop - 1, k)]);
      if (position >= last) return kNever;
      if (position >= change.first) {
        for (const Moved& moved : moved_) {
          if ((moved.type->hop == hop - 1 && moved.k == k) ||
              (moved.type->second_hop == hop - 1 && moved.second_k == k))
            return moved.end + problem_.transfer(hop - 1).delay;
        }
        return kNever;
      }
    }
    return evaluator_.arrival(hop, k);
  };
  for (const Step step : change.steps) {
    Moved moved{&problem_.type(step)};
    if (moved.type->hop >= 0) {
      moved.k = next_k_[moved.type->hop]++;
      end = std::max(end, arrival(moved.type->hop, moved.k));
    }
    if (moved.type->second_hop >= 0) {
      moved.second_k = next_k_[moved.type->second_hop]++;
      end = std::max(end, arrival(moved.type->second_hop, moved.second_k));
    }
    if (end >= kNever) return kNever;
    end += moved.type->duration;
    moved.end = end;
    moved_.push_back(moved);
  }

  Time longest = 0;
  Time tail = last < steps.size() ? problem_.type(steps[last]).duration + nodes[last].tail : 0;
  const auto after = [&](int hop, int k) -> Time {
    if (hop + 1 < problem_.num_hops() && problem_.rank_of_hop(hop + 1) == change.rank) {
      const auto position = static_cast<std::size_t>(position_[cell(hop + 1, k)]);
      if (position >= change.first && position < last) return 0;
    }
    return after_output(hop, k, order);
  };
  for (auto moved = moved_.rbegin(); moved != moved_.rend(); ++moved) {
    if (moved->type->hop >= 0) tail = std::max(tail, after(moved->type->hop, moved->k));
    if (moved->type->second_hop >= 0) tail = std::max(tail, after(moved->type->second_hop, moved->second_k));
    longest = std::max(longest, moved->end + tail);
    tail += moved->type->duration;
  }
  return longest;
}

}  // namespace counterflow::searching
