#include "starts.h"

#include "counterflow/error.h"
#include "counterflow/fold.h"
#include "counterflow/generate.h"

namespace counterflow::searching {
namespace {

/// The generators' schedules of a size that lie on a placement.
std::vector<Known> generated(const Placement& placement, int stages_per_rank, int copies) {
  std::vector<Known> found;
  for (const Generator* generator : all_generators()) {
    const int stages = generator->takes_stages_per_rank ? stages_per_rank : generator->stages_per_rank;
    const Size size{placement.num_ranks(), placement.num_micro_batches(), stages};
    if (generator->copies != copies || stages != stages_per_rank || !generator->fits(size)) continue;
    Schedule schedule = generate(*generator, size);
    if (schedule.placement == placement) found.push_back({std::string(generator->name), std::move(schedule)});
  }
  return found;
}

}  // namespace

std::vector<Known> known_schedules(const Family& family) {
  const int p = family.placement.num_ranks();
  const int m = family.placement.num_micro_batches();
  std::vector<Known> found = generated(family.placement, family.stages_per_rank, family.copies);
  if (family.kind == PlacementKind::kV && m <= Placement::kMaxMicroBatches / 2 &&
      p <= Placement::kMaxRanks / 2) {
    for (Known& known : generated(Placement::bidirectional(2 * p, 2 * m), 1, 2)) {
      try {
        found.push_back({known.name + ", folded", fold(known.schedule)});
      } catch (const InvalidConfig&) {
        continue;  // its two halves are no mirror images: it is no V
      }
    }
  }
  if (family.kind == PlacementKind::kBidirectional) {
    for (Known& known : generated(Placement::v(p / 2, m / 2), 2, 1))
      found.push_back({known.name + ", unfolded", unfold(known.schedule)});
  }
  return found;
}

}  // namespace counterflow::searching
