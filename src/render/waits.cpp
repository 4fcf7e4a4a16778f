#include "waits.h"

namespace counterflow {

PassIndex::PassIndex(const Timeline& timeline)
    : num_stages_(timeline.placement.num_stages()),
      num_micro_batches_(timeline.placement.num_micro_batches()) {
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    const std::vector<Bar>& bars = timeline.ranks[rank].bars;
    for (std::size_t bar = 0; bar < bars.size(); ++bar) {
      for (const Pass& pass : bars[bar].action.passes()) {
        bars_.emplace(key(pass.kind, pass.stage, pass.micro_batch),
                      BarId{static_cast<std::int32_t>(rank), static_cast<std::int32_t>(bar)});
      }
    }
  }
}

std::uint64_t PassIndex::key(PassKind kind, std::int32_t stage, std::int32_t micro_batch) const {
  const std::uint64_t what = kind == PassKind::kForward ? 0 : kind == PassKind::kWeightGradient ? 2 : 1;
  return (what * num_stages_ + stage) * num_micro_batches_ + micro_batch;
}

std::optional<BarId> PassIndex::find(PassKind kind, std::int32_t stage, std::int32_t micro_batch) const {
  if (stage < 0 || static_cast<std::uint64_t>(stage) >= num_stages_) return std::nullopt;
  const auto found = bars_.find(key(kind, stage, micro_batch));
  if (found == bars_.end()) return std::nullopt;
  return found->second;
}

std::optional<BarId> PassIndex::receiver(const Pass& pass) const {
  if (pass.kind == PassKind::kForward) return find(PassKind::kForward, pass.stage + 1, pass.micro_batch);
  return find(PassKind::kBackward, pass.stage - 1, pass.micro_batch);
}

Waits::Waits(const Timeline& timeline) : timeline_(timeline), index_(timeline) {
  for (const RankTimeline& rank : timeline.ranks) arrivals_.emplace_back(rank.bars.size());
  for (const LinkTimeline& link : timeline.links) {
    for (const Transfer& transfer : link.transfers) {
      if (transfer.receiver >= 0) arrivals_[link.to][transfer.receiver].push_back(&transfer);
    }
  }
}

std::optional<Wait> Waits::of(const Pass& pass, BarId id) const {
  PassKind kind = PassKind::kForward;
  std::int32_t stage = pass.stage;
  if (pass.kind == PassKind::kForward) {
    --stage;
  } else if (pass.kind == PassKind::kWeightGradient) {
    kind = PassKind::kInputGradient;
  } else if (stage + 1 < timeline_.placement.num_stages()) {
    kind = PassKind::kBackward;
    ++stage;
  }
  const auto producer = index_.find(kind, stage, pass.micro_batch);
  if (!producer || *producer == id) return std::nullopt;
  const Time end = timeline_.ranks[producer->rank].bars[producer->bar].end;
  for (const Transfer* transfer : arrivals_[id.rank][id.bar]) {
    const bool is_gradient = transfer->pass.kind != PassKind::kForward;
    if (transfer->pass.stage == stage && transfer->pass.micro_batch == pass.micro_batch &&
        is_gradient == (kind != PassKind::kForward))
      return Wait{*producer, transfer->begin, transfer->end};
  }
  return Wait{*producer, end, end};
}

std::vector<Wait> Waits::of(BarId id) const {
  std::vector<Wait> found;
  for (const Pass& pass : timeline_.ranks[id.rank].bars[id.bar].action.passes()) {
    if (const auto wait = of(pass, id)) found.push_back(*wait);
  }
  return found;
}

std::optional<Wait> Waits::last(BarId id) const {
  std::optional<Wait> last;
  if (id.bar > 0) {
    const Time end = timeline_.ranks[id.rank].bars[id.bar - 1].end;
    last = Wait{{id.rank, id.bar - 1}, end, end};
  }
  for (const Wait& wait : of(id)) {
    if (!last || wait.arrived > last->arrived) last = wait;
  }
  return last;
}

}  // namespace counterflow
