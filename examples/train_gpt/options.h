// What the command line asks for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "counterflow/schedule.h"
#include "model.h"

namespace train_gpt {

struct Options {
  std::vector<std::string> files;  ///< empty: default_files()
  std::string schedule = "dualpipe";
  std::string transport = "local";
  int ranks = 0;        ///< 0: on GPUs as many as were launched, otherwise 4
  bool record = false;  ///< steps are recorded once and replayed as CUDA graphs
  bool share_gpus = false;
  int micro_batches = 8;
  ModelOptions model;
  std::int64_t batch = 8;  ///< sequences a step
  std::int64_t steps = 600;
  double learning_rate = 2e-3;
  std::string checkpoint;             ///< folder to save in; empty: nowhere
  std::int64_t checkpoint_every = 0;  ///< steps; 0: only at the end
  std::string resume;                 ///< folder to go on from; empty: start anew
  std::int64_t check_steps = 3;       ///< compared with an unpipelined run
  std::int64_t sample_bytes = 160;    ///< of text to generate at the end
  std::string costs;                  ///< cost file to predict from; empty: profile 1F1B
  std::string save_costs;             ///< file for those that were profiled; empty: nowhere
  std::string save_timeline;          ///< file for what the ranks did in a step at the end; empty: nowhere

  /// Whether ranks are processes with a GPU each.
  bool on_gpus() const { return transport == "gpu" || transport == "nccl" || transport == "copy"; }

  /// What a checkpoint keeps of them, by the names of the command line.
  std::map<std::string, std::string> saved() const;
};

/// Reads the command line. What it does not say is taken from the checkpoint to resume from, if there is one.
/// Writes help or an error and returns false where the program should end, with `exit_code` set.
/// Throws counterflow::Error where the checkpoint cannot be read or holds another model than asked for, and
/// for options that do not go together.
bool parse(int argc, char** argv, Options& options, int& exit_code);

/// The schedule that the options name: a generator's for their size, or a file's. Throws counterflow::Error.
counterflow::Schedule make_schedule(const Options& options);

}  // namespace train_gpt
