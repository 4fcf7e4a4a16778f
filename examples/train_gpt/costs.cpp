#include "costs.h"

#include "counterflow/generate.h"
#include "counterflow/runtime/local.h"
#include "trainer.h"

namespace train_gpt {
namespace {

/// 1F1B with as many stages: interleaved where ranks hold several and the sizes allow it.
counterflow::Schedule one_f_one_b(const counterflow::Schedule& schedule) {
  const int stages = schedule.num_stages();
  const int ranks = schedule.num_ranks();
  const int micro_batches = schedule.num_micro_batches();
  if (stages > ranks && stages % ranks == 0) {
    const counterflow::Size size{ranks, micro_batches, stages / ranks};
    const counterflow::Generator& interleaved = counterflow::find_generator("interleaved-1f1b");
    if (interleaved.fits(size)) return counterflow::generate(interleaved, size);
  }
  return counterflow::generate("1f1b", {stages, micro_batches});
}

}  // namespace

counterflow::CostModel profile(const Options& options, const Text& text,
                               const counterflow::Schedule& schedule) {
  const counterflow::Schedule profiled = one_f_one_b(schedule);
  counterflow::CostModel costs;
  counterflow::runtime::run_local(profiled.num_ranks(), [&](counterflow::runtime::Transport& transport) {
    Trainer trainer(options, text, profiled, transport);
    const counterflow::CostModel found = trainer.profile();
    if (transport.rank() == 0) costs = found;
  });
  return costs;
}

}  // namespace train_gpt
