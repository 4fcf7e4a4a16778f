// A run's state in a folder, from which any number of ranks can go on, along any schedule.
//
// DIRECTORY/
//   latest                              the name of the newest checkpoint
//   step-000000200/
//     stage-00000.safetensors …         a stage's tensors, under names that do not say which stage holds them
//     model.safetensors.index.json      the step, the run's state, and which file has which tensor
//
// A checkpoint is written beside its place, put on the disk and then moved there; only then `latest` names
// it, and only after that older ones go. Whenever a run is killed, the folder holds the last good one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "counterflow/runtime/stage.h"
#include "counterflow/runtime/transport.h"

namespace counterflow::runtime {

/// What a checkpoint keeps of a stage: parameters, buffers, optimizer state. Every name comes once in a
/// model, whichever stage holds it.
struct StageTensors {
  int stage = 0;
  std::vector<NamedTensor> tensors;
};

/// Collective, on a folder that all ranks see. Each rank gives the stages that it holds; a stage with copies
/// is written by the lowest of its ranks. `state` is whatever the caller wants back, equal on all ranks.
/// Leaves `keep` checkpoints, this one among them; another of the same step is replaced. Throws Error on
/// every rank where any rank could not write its part; what was there before is then still there.
void save_checkpoint(Transport& transport, const std::string& directory, std::int64_t step,
                     const std::vector<StageTensors>& stages, const std::map<std::string, std::string>& state,
                     int keep = 2);

/// A checkpoint to read. Not collective: each rank opens it and takes what it needs.
class Checkpoint {
 public:
  /// Opens the newest checkpoint of a folder that save_checkpoint() wrote to, or a checkpoint itself
  /// (DIRECTORY/step-000000200). Throws Error where there is none or where its index is not sound.
  explicit Checkpoint(const std::string& path);

  const std::string& path() const { return path_; }
  std::int64_t step() const { return step_; }
  const std::map<std::string, std::string>& state() const { return state_; }

  /// Which file has which tensor.
  const std::map<std::string, std::string>& files() const { return files_; }

  /// Fills tensors from those of their names. Throws Error where one is missing or of another type or shape.
  void load(const std::vector<NamedTensor>& tensors) const;

 private:
  std::string path_;
  std::int64_t step_ = 0;
  std::map<std::string, std::string> state_;
  std::map<std::string, std::string> files_;
};

}  // namespace counterflow::runtime
