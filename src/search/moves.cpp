#include "moves.h"

#include <algorithm>

namespace counterflow::searching {

namespace {

constexpr int kReach = 12;
constexpr int kBlockPercent = 15;

}  // namespace

void apply(Order& order, Change& change) {
  std::vector<Step>& list = order[change.rank];
  const auto first = list.begin() + static_cast<std::ptrdiff_t>(change.first);
  const std::size_t new_size = change.steps.size();
  const std::size_t common = std::min(change.size, new_size);
  std::swap_ranges(first, first + static_cast<std::ptrdiff_t>(common), change.steps.begin());
  const auto middle = first + static_cast<std::ptrdiff_t>(common);
  const auto rest = change.steps.begin() + static_cast<std::ptrdiff_t>(common);
  if (new_size > change.size) {
    list.insert(middle, rest, change.steps.end());
    change.steps.resize(change.size);
  } else if (new_size < change.size) {
    const auto end = middle + static_cast<std::ptrdiff_t>(change.size - new_size);
    change.steps.insert(change.steps.end(), middle, end);
    list.erase(middle, end);
  }
  change.size = new_size;
}

Change* Moves::propose(const Order& order, int rank, std::size_t position, Random& random) {
  const std::vector<Step>& list = order[rank];
  const std::size_t begin = position < kReach ? 0 : position - kReach;
  const std::size_t end = std::min(list.size(), position + kReach + 1);
  window_.assign(list.begin() + static_cast<std::ptrdiff_t>(begin),
                 list.begin() + static_cast<std::ptrdiff_t>(end));
  at_ = static_cast<int>(position - begin);

  const int draw = random.below(100);
  bool changed = false;
  if (draw < 25) {
    changed = change_backward(random);
  } else if (draw < 45 && problem_.any_pair_pays()) {
    changed = change_pair(random);
  } else {
    changed = shift(random, draw < 75 ? 2 : 10);
  }
  if (!changed) return nullptr;

  // Only what differs.
  const auto old_begin = list.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto old_end = list.begin() + static_cast<std::ptrdiff_t>(end);
  const auto [new_first, old_first] = std::mismatch(window_.begin(), window_.end(), old_begin, old_end);
  if (new_first == window_.end() && old_first == old_end) return nullptr;
  const auto [new_last, old_last] =
      std::mismatch(window_.rbegin(), std::make_reverse_iterator(new_first),
                    std::make_reverse_iterator(old_end), std::make_reverse_iterator(old_first));
  change_.rank = rank;
  change_.first = static_cast<std::size_t>(old_first - list.begin());
  change_.size = static_cast<std::size_t>(old_last.base() - old_first);
  change_.steps.assign(new_first, new_last.base());
  return &change_;
}

bool Moves::shift(Random& random, int reach) {
  const int distance = 1 + random.below(reach);
  // Now and then a few steps together: with little room a forward can only move with what makes room for it.
  const int length = random.below(100) < kBlockPercent ? 2 + random.below(3) : 1;
  const bool later = random.below(2) == 0;
  const int from = later ? at_ : at_ - distance;
  const int middle = later ? at_ + length : at_;
  const int to = middle + (later ? distance : length);
  if (from < 0 || to > size()) return false;
  const auto first = window_.begin();
  std::rotate(first + from, first + middle, first + to);
  return true;
}

bool Moves::change_pair(Random& random) {
  if (type(at_).kind == Kind::kPair) {
    split(random);
    return true;
  }
  return merge(random);
}

// The nearest forward and backward around the step become a pair in its place.
bool Moves::merge(Random& random) {
  constexpr int kPartnerReach = 4;
  const StepType& one = type(at_);
  const bool is_forward = one.kind == Kind::kForward;
  if (!is_forward && !one.has_gradient()) return false;
  const auto is_partner = [&](const StepType& other) {
    return other.kind != Kind::kPair && (is_forward ? other.has_gradient() : other.has_forward());
  };
  const int sign = random.below(2) == 0 ? 1 : -1;
  int partner = -1;
  for (int distance = 1; partner < 0 && distance <= kPartnerReach; ++distance) {
    for (const int index : {at_ + sign * distance, at_ - sign * distance}) {
      if (partner < 0 && index >= 0 && index < size() && is_partner(type(index))) partner = index;
    }
  }
  if (partner < 0) return false;
  const StepType& f = is_forward ? one : type(partner);
  const StepType& g = is_forward ? type(partner) : one;
  const int gradient_stage = problem_.gradient_stage(g);
  const Step pair = problem_.pair(problem_.stage(f), gradient_stage);
  if (!problem_.pays(pair)) return false;
  if (g.kind == Kind::kInputGradient && !erase_weight(gradient_stage, std::max(at_, partner) + 1))
    return false;
  window_[at_] = pair;
  window_.erase(window_.begin() + partner);
  return true;
}

// F and B, in either order, or F, I and a W soon after.
void Moves::split(Random& random) {
  const StepType& pair = type(at_);
  const int gradient_stage = problem_.gradient_stage(pair);
  const bool whole = random.below(2) == 0;
  Step first = problem_.forward(problem_.stage(pair));
  Step second = whole ? problem_.backward(gradient_stage) : problem_.input_gradient(gradient_stage);
  if (random.below(2) == 0) std::swap(first, second);
  window_[at_] = first;
  window_.insert(window_.begin() + at_ + 1, second);
  if (!whole) insert_weight(gradient_stage, at_ + 2, 6, random);
}

bool Moves::change_backward(Random& random) {
  const StepType& one = type(at_);
  const int stage = problem_.gradient_stage(one);
  switch (one.kind) {
    case Kind::kBackward:
      window_[at_] = problem_.input_gradient(stage);
      insert_weight(stage, at_ + 1, 8, random);
      return true;
    case Kind::kInputGradient:
      window_[at_] = problem_.backward(stage);
      return erase_weight(stage, at_ + 1);
    case Kind::kWeightGradient:
      return shift(random, 10);
    case Kind::kPair:
      split(random);
      return true;
    case Kind::kForward:
      return false;
  }
  return false;
}

bool Moves::erase_weight(int stage, int from) {
  const auto found = std::find(window_.begin() + from, window_.end(), problem_.weight_gradient(stage));
  if (found == window_.end()) return false;
  window_.erase(found);
  return true;
}

void Moves::insert_weight(int stage, int from, int reach, Random& random) {
  const int to = std::min(from + random.below(reach), size());
  window_.insert(window_.begin() + to, problem_.weight_gradient(stage));
}

}  // namespace counterflow::searching
