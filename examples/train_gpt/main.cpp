// Trains a byte-level GPT on text, cut into stages and pipelined along any schedule.
#include <ATen/Parallel.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <optional>
#include <vector>

#include "costs.h"
#include "counterflow/cost_model.h"
#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/runtime/local.h"
#ifdef TRAIN_GPT_WITH_MPI
#include "counterflow/runtime/mpi.h"
#endif
#include "gpus.h"
#include "options.h"
#include "run.h"
#include "text.h"

namespace train_gpt {
namespace {

void describe(const Options& options, const Text& text, const counterflow::Schedule& schedule) {
  const std::vector<Slice> slices = cut(options.model, schedule.num_stages());
  std::printf("text: %.0f kB of %zu files to learn, %.0f kB held out; bigram entropy %.3f nats a byte\n",
              1e-3 * static_cast<double>(text.training.size()), text.num_files,
              1e-3 * static_cast<double>(text.held_out.size()),
              bigram_entropy(text.training + text.held_out));
  std::printf("model: %.2f million parameters; blocks by stage:",
              1e-6 * static_cast<double>(options.model.num_parameters()));
  for (const Slice& slice : slices) std::printf(" %ld", slice.num_blocks);
  std::printf("\nschedule: %s, %d ranks, %d micro-batches\n", schedule.name.c_str(), schedule.num_ranks(),
              schedule.num_micro_batches());
  std::fflush(stdout);
}

/// On GPUs a step is predicted only from a file.
std::optional<counterflow::CostModel> find_costs(const Options& options, const Text& text,
                                                 const counterflow::Schedule& schedule) {
  if (options.on_gpus() && options.costs.empty()) return std::nullopt;
  counterflow::CostModel costs =
      options.costs.empty() ? profile(options, text, schedule) : counterflow::read_cost_file(options.costs);
  if (!options.save_costs.empty())
    counterflow::write_file(options.save_costs, format_cost_model(costs, "us"));
  return costs;
}

void run_processes(const std::function<void(counterflow::runtime::Transport&)>& body) {
#ifdef TRAIN_GPT_WITH_MPI
  counterflow::runtime::run_mpi(body);
#else
  (void)body;
  throw counterflow::InvalidConfig(
      "--transport mpi: this program was built where there was no MPI; install libopenmpi-dev and build "
      "again");
#endif
}

/// As many as the launcher started, where ranks are on GPUs.
int default_ranks(const Options& options) {
  constexpr int kRanks = 4;
  return options.on_gpus() ? num_launched() : kRanks;
}

void start(Options options) {
  options.model.check();
  const int ranks = default_ranks(options);
  if (options.ranks == 0) options.ranks = ranks;
  const Text text = read_text(options.files.empty() ? default_files() : options.files, options.model.context);
  const counterflow::Schedule schedule = make_schedule(options);
  at::set_num_threads(1);  // there are as many ranks as cores, or more
  std::optional<counterflow::CostModel> costs;
  const auto begin = [&] {
    describe(options, text, schedule);
    costs = find_costs(options, text, schedule);
  };
  const auto process = [&](counterflow::runtime::Transport& transport) {
    if (transport.rank() == 0) begin();
    run(options, text, schedule, costs, transport);
  };
  const auto process_with_gpu = [&](const GpuRank& rank) {
    options.model.device = rank.device;
    if (rank.transport.rank() == 0) begin();
    run(options, text, schedule, costs, rank.transport, rank.recorder);
  };
  const auto thread = [&](counterflow::runtime::Transport& transport) {
    run(options, text, schedule, costs, transport);
  };
  if (options.on_gpus()) return run_on_gpu(options, process_with_gpu);
  if (options.transport == "mpi") return run_processes(process);
  begin();
  counterflow::runtime::run_local(schedule.num_ranks(), thread);
}

}  // namespace
}  // namespace train_gpt

int main(int argc, char** argv) {
  try {
    train_gpt::Options options;
    if (train_gpt::kHasGpus) options.transport = "gpu";
    int exit_code = 0;
    if (!train_gpt::parse(argc, argv, options, exit_code)) return exit_code;
    train_gpt::start(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
