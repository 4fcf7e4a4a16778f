#include "torch_csv.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "action_text.h"
#include "counterflow/error.h"
#include "counterflow/format.h"
#include "limits.h"
#include "row_reader.h"

namespace counterflow {
namespace {

/// Gathers from the actions which rank holds which stage, and how many micro-batches there are.
class PlacementInference {
 public:
  explicit PlacementInference(const Source& source) : source_(source) {}

  void add(const Pass& pass, std::int32_t rank, std::size_t offset) {
    if (pass.stage >= Placement::kMaxStages) refuse(pass, offset, "stages", Placement::kMaxStages);
    if (pass.micro_batch >= Placement::kMaxMicroBatches) {
      refuse(pass, offset, "micro-batches", Placement::kMaxMicroBatches);
    }
    const auto stage = static_cast<std::size_t>(pass.stage);
    if (stage >= homes_.size()) homes_.resize(stage + 1);
    Home& home = homes_[stage];
    if (home.rank < 0) home = {rank, offset};
    if (home.rank != rank) {
      source_.fail(offset,
                   "expected every stage on one rank, found stage " + std::to_string(pass.stage) +
                       " on rank " + std::to_string(rank) + " here and on rank " + std::to_string(home.rank) +
                       " at " + source_.place(home.offset) +
                       "; a stage on two ranks needs Counterflow's header with a line for each direction");
    }
    if (pass.micro_batch >= num_micro_batches_) {
      num_micro_batches_ = pass.micro_batch + 1;
      last_micro_batch_at_ = offset;
    }
  }

  /// Where the highest micro-batch occurs first.
  std::size_t last_micro_batch_at() const { return last_micro_batch_at_; }

  Placement placement(std::int32_t ranks) const {
    if (homes_.empty()) source_.fail(0, "expected actions, found none");
    std::vector<std::int32_t> rank_of_stage;
    for (const Home& home : homes_) {
      if (home.rank < 0) {
        source_.fail(homes_.back().offset,
                     "expected actions of every stage up to this, found none of stage " +
                         std::to_string(rank_of_stage.size()));
      }
      rank_of_stage.push_back(home.rank);
    }
    return Placement(ranks, {{0, num_micro_batches_, std::move(rank_of_stage)}});
  }

 private:
  struct Home {
    std::int32_t rank = -1;
    std::size_t offset = 0;  // of the stage's first action
  };

  [[noreturn]] void refuse(const Pass& pass, std::size_t offset, const char* what, std::int32_t most) const {
    source_.fail(offset, std::string("expected ") + what + " below " + std::to_string(most) + ", found " +
                             to_string(pass));
  }

  const Source& source_;
  std::vector<Home> homes_;  // [stage]
  std::int32_t num_micro_batches_ = 0;
  std::size_t last_micro_batch_at_ = 0;
};

}  // namespace

Schedule parse_torch_csv(const Source& source) {
  Schedule schedule;
  PlacementInference inference(source);
  Lines lines(source.text);
  while (!lines.at_end()) {
    const std::string_view line = lines.next();
    const auto rank = static_cast<std::int32_t>(schedule.actions.size());
    if (rank == Placement::kMaxRanks) {
      source.fail(source.offset_of(line),
                  "expected at most " + std::to_string(rank) + " lines, one for each rank");
    }
    schedule.actions.push_back(read_row(source, line, [&](const Action& action, std::size_t offset) {
      for (const Pass& pass : action.passes()) inference.add(pass, rank, offset);
    }));
  }
  schedule.placement = inference.placement(static_cast<std::int32_t>(schedule.actions.size()));
  const std::string too_large = excess(schedule);
  if (!too_large.empty()) source.fail(inference.last_micro_batch_at(), too_large);
  return schedule;
}

std::string format_torch(const Schedule& schedule) {
  if (schedule.passes == Passes::kForward) {
    throw InvalidConfig(
        "schedule for PyTorch: expected forwards and backwards, found passes of forward only");
  }
  const Placement& placement = schedule.placement;
  for (int stage = 0; stage < placement.num_stages(); ++stage) {
    const auto ranks = placement.ranks_of(stage);
    if (ranks.size() > 1) {
      throw InvalidConfig("schedule for PyTorch: expected every stage on one rank, found stage " +
                          std::to_string(stage) + " on ranks " + std::to_string(ranks[0]) + " and " +
                          std::to_string(ranks[1]));
    }
  }
  std::string out;
  append_rows(out, schedule);
  return out;
}

}  // namespace counterflow
