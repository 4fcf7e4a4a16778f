#include "complete_schedule.h"

#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/verify.h"

namespace counterflow::command {

Schedule read_complete_schedule(const std::string& file) {
  Schedule schedule = read_file(file);
  VerifyOptions options;
  options.max_diagnostics = 1;
  const Verdict verdict = verify(schedule, options);
  if (verdict.ok()) return schedule;
  const Diagnostic& first = verdict.diagnostics.front();
  throw InvalidConfig(file + ": " + std::string(rule_name(first.rule)) + ": " + first.message +
                      " (`counterflow verify` shows all)");
}

}  // namespace counterflow::command
