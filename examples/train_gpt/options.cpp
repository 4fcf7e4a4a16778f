#include "options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <system_error>

#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "counterflow/runtime/checkpoint.h"

namespace train_gpt {
namespace {

/// A number above 0, or not below 0. CLI11's own messages name the largest double.
CLI::Validator number(bool or_zero) {
  const auto check = [or_zero](const std::string& text) -> std::string {
    double value = -1;
    std::from_chars(text.data(), text.data() + text.size(), value);
    if (value > 0 || (or_zero && value == 0)) return "";
    return std::string("expected a number ") + (or_zero ? "that is not negative" : "above 0") + ", found " +
           text;
  };
  return {check, or_zero ? "NONNEGATIVE" : "POSITIVE"};
}

void add_model_options(CLI::App& app, ModelOptions& model) {
  app.add_option("--layers", model.layers, "transformer blocks")->check(number(false));
  app.add_option("--dim", model.dim, "width of the model")->check(number(false));
  app.add_option("--heads", model.heads, "attention heads")->check(number(false));
  app.add_option("--context", model.context, "bytes of a sequence")->check(number(false));
  app.add_option("--dropout", model.dropout, "share of activations dropped in training")
      ->check(CLI::Range(0.0, 0.9));
  app.add_flag("--tied", model.tied, "one matrix for embedding and prediction, on the first and last stage");
  app.add_option("--seed", model.seed, "of first weights, of the order of the text, of dropout");
}

void add_pipeline_options(CLI::App& app, Options& options) {
  app.add_option("--schedule", options.schedule, "a generator (`counterflow list`) or a schedule file");
  app.add_option("--ranks", options.ranks, "ranks; a file has its own number")
      ->check(number(false))
      ->default_str("4, on GPUs as many as were launched");
  app.add_option("--micro-batches", options.micro_batches, "micro-batches a step; a file has its own number")
      ->check(number(false));
  app.add_option("--transport", options.transport,
                 "ranks as threads (local); as processes under mpirun (mpi); as processes with a GPU each "
                 "under torchrun, mpirun or srun: over NCCL (nccl), by the GPUs' copy engines (copy), or by "
                 "these where all GPUs reach one another and over NCCL elsewhere (gpu)")
      ->check(CLI::IsMember({"local", "mpi", "gpu", "nccl", "copy"}));
  app.add_flag("--record", options.record,
               "on GPUs: record a step as one CUDA graph for each rank and replay it, with the same results");
  app.add_flag(
      "--share-gpus", options.share_gpus,
      "on GPUs: try more processes than there are GPUs, slowly; over NCCL each then needs an NCCL_HOSTID "
      "of its own in its environment");
}

void add_run_options(CLI::App& app, Options& options) {
  app.add_option("--batch", options.batch, "sequences a step")->check(number(false));
  app.add_option("--steps", options.steps, "optimizer steps in all")->check(number(false));
  app.add_option("--lr", options.learning_rate, "highest learning rate")->check(number(false));
  app.add_option("--checkpoint", options.checkpoint, "folder to save the run in");
  app.add_option("--checkpoint-every", options.checkpoint_every, "steps; 0: only at the end")
      ->check(number(true));
  app.add_option("--resume", options.resume, "folder of a checkpoint to go on from")
      ->check(CLI::ExistingDirectory);
  app.add_option("--check-steps", options.check_steps, "first steps to compare with an unpipelined run")
      ->check(number(true));
  app.add_option("--sample", options.sample_bytes, "bytes to generate at the end")->check(number(true));
  app.add_option("--costs", options.costs,
                 "cost file to predict the step's time from; by default 1F1B is profiled at first")
      ->check(CLI::ExistingFile);
  app.add_option("--save-costs", options.save_costs,
                 "file to write what was profiled to, for `counterflow simulate --cost-file`");
  app.add_option("--save-timeline", options.save_timeline,
                 "file to write what the ranks did in a step at the end to, for `counterflow render`");
}

/// Throws counterflow::InvalidConfig.
void check_together(const Options& options) {
  if (options.record && !options.on_gpus())
    throw counterflow::InvalidConfig(
        "--record: only steps on GPUs are recorded, with --transport gpu, nccl or copy; found --transport " +
        options.transport);
  if (options.share_gpus && !options.on_gpus())
    throw counterflow::InvalidConfig(
        "--share-gpus: goes with --transport gpu, nccl or copy; found --transport " + options.transport);
  if (options.on_gpus() && !options.save_costs.empty() && options.costs.empty())
    throw counterflow::InvalidConfig(
        "--save-costs: costs are profiled on the CPU only, not with --transport " + options.transport);
  if (options.record && !(options.save_timeline.empty() && options.costs.empty()))
    throw counterflow::InvalidConfig(
        "--record: a replayed step has no timeline to save or to compare with a prediction: leave out "
        "--save-timeline and --costs");
}

/// Now, and not when there is something to save.
void make_folder(const std::string& checkpoint) {
  if (checkpoint.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(checkpoint, error);
  if (error)
    throw counterflow::InvalidConfig("--checkpoint: the folder " + checkpoint +
                                     " cannot be made: " + error.message());
}

std::string text_of(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

/// Options that the command line leaves open become those of the checkpoint. The model's must be the same.
void take_from_checkpoint(CLI::App& app, const Options& options) {
  const counterflow::runtime::Checkpoint checkpoint(options.resume);
  const auto given = options.saved();
  for (const auto& [name, value] : checkpoint.state()) {
    if (!given.contains(name)) continue;
    CLI::Option& option = *app.get_option("--" + name);
    const bool is_model =
        name == "layers" || name == "dim" || name == "heads" || name == "context" || name == "tied";
    if (option.count() == 0) {
      option.add_result(value);
      option.run_callback();
    } else if (is_model && given.at(name) != value) {
      throw counterflow::InvalidConfig("--" + name + " " + given.at(name) + " is not the model in " +
                                       checkpoint.path() + ", whose " + name + " is " + value);
    }
  }
}

}  // namespace

std::map<std::string, std::string> Options::saved() const {
  return {{"schedule", schedule},
          {"ranks", std::to_string(ranks)},
          {"micro-batches", std::to_string(micro_batches)},
          {"layers", std::to_string(model.layers)},
          {"dim", std::to_string(model.dim)},
          {"heads", std::to_string(model.heads)},
          {"context", std::to_string(model.context)},
          {"dropout", text_of(model.dropout)},
          {"tied", model.tied ? "true" : "false"},
          {"seed", std::to_string(model.seed)},
          {"batch", std::to_string(batch)},
          {"steps", std::to_string(steps)},
          {"lr", text_of(learning_rate)}};
}

bool parse(int argc, char** argv, Options& options, int& exit_code) {
  CLI::App app("Trains a byte-level GPT on text, cut into stages and pipelined along any schedule.");
  app.option_defaults()->always_capture_default();
  app.option_defaults()->take_last();
  app.add_option("FILE", options.files,
                 "text to learn; by default the licences and copyright files of a Debian machine")
      ->take_all()
      ->check(CLI::ExistingFile);
  add_pipeline_options(app, options);
  add_model_options(app, options.model);
  add_run_options(app, options);
  try {
    app.parse(argc, argv);
    check_together(options);
    make_folder(options.checkpoint);
    if (!options.resume.empty()) take_from_checkpoint(app, options);
  } catch (const CLI::Error& error) {
    exit_code = app.exit(error) == 0 ? 0 : 2;
    return false;
  }
  return true;
}

counterflow::Schedule make_schedule(const Options& options) {
  const bool is_file = options.schedule.find_first_of("./") != std::string::npos;
  if (is_file) return counterflow::read_file(options.schedule);
  return counterflow::generate(options.schedule, {options.ranks, options.micro_batches});
}

}  // namespace train_gpt
