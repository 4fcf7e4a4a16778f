// Any bytes as a schedule file: they are read or refused, and what was read survives being written, judged,
// drawn and run.
#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/simulate.h"
#include "counterflow/verify.h"
#include "fuzz/fuzz.h"

namespace counterflow {
namespace {

/// A file that is lowered: its program is judged, whatever it is.
void use_program(std::string_view text, const Schedule& schedule) {
  if (std::int64_t{schedule.num_stages()} * schedule.num_micro_batches() > 4096 || !verify(schedule).ok())
    return;
  const std::optional<Program> program = parse_program(text, schedule);
  if (program) draw(*program, schedule, verify(*program, schedule));
}

void use(const Schedule& schedule) {
  fuzz::check(parse(format(schedule)) == schedule, "parse(format(s)) == s");
  format_json(schedule);
  // The readers are what is tested: millions of cells would only make it slow.
  if (std::int64_t{schedule.num_stages()} * schedule.num_micro_batches() > 4096) return;
  const Verdict verdict = verify(schedule);
  draw(schedule, verdict);
  try {
    format_torch(schedule);
  } catch (const InvalidConfig&) {
  }
  try {
    simulate(schedule, UniformCost{});
  } catch (const InvalidConfig&) {
    fuzz::check(!verdict.ok(), "a schedule that verifies can be simulated");
  }
}

}  // namespace
}  // namespace counterflow

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto text = counterflow::fuzz::as_text(data, size);
    const counterflow::Schedule schedule = counterflow::parse(text);
    counterflow::use(schedule);
    counterflow::use_program(text, schedule);
  } catch (const counterflow::ParseError&) {
  }
  return 0;
}
