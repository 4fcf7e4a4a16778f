// Any bytes as a cost file: they are read or refused, and what was read survives being written and used.
#include "counterflow/cost_model.h"
#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "counterflow/simulate.h"
#include "fuzz/fuzz.h"

namespace counterflow {
namespace {

void use(const CostModel& costs) {
  fuzz::check(parse_cost_model(format_cost_model(costs)) == costs,
              "parse_cost_model(format_cost_model(c)) == c");
  static const Schedule schedule = generate("dualpipe", {4, 8});
  try {
    simulate(schedule, costs);
  } catch (const InvalidConfig&) {  // costs of another number of stages, or too large
  }
}

}  // namespace
}  // namespace counterflow

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    counterflow::use(counterflow::parse_cost_model(counterflow::fuzz::as_text(data, size)));
  } catch (const counterflow::ParseError&) {
  }
  return 0;
}
