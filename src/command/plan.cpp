#include "plan.h"

#include "counterflow/idle.h"
#include "counterflow/simulate.h"

namespace counterflow::command {

Timeline plan_of(const Timeline& run, const Schedule& schedule, const CostOptions& costs) {
  const CostModel model = costs.given() ? costs.read() : mean_costs(run);
  Timeline plan = make_timeline(schedule, model, simulate(schedule, model));
  plan.unit_ns = costs.given() ? 1000 : run.unit_ns;
  return plan;
}

}  // namespace counterflow::command
