#include "counterflow/runtime/checkpoint.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <functional>
#include <set>
#include <sstream>
#include <utility>

#include "checkpoint_index.h"
#include "counterflow/error.h"
#include "counterflow/runtime/safetensors.h"
#include "disk.h"

namespace counterflow::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostIndexBytes = std::uint64_t{64} << 20;
constexpr const char* kPartial = ".partial";

/// Does this rank's part of something that all ranks do, and waits for the others. Throws on every rank if
/// any rank's part threw.
void together(Transport& transport, const std::string& what, const std::function<void()>& part) {
  std::string error;
  try {
    part();
  } catch (const std::exception& thrown) {
    error = thrown.what();
    if (error.empty()) error = "an error without a text";
  }
  const std::vector<std::string> errors = transport.all_gather(error);
  for (std::size_t rank = 0; rank < errors.size(); ++rank)
    if (!errors[rank].empty()) throw Error(what + ": rank " + std::to_string(rank) + ": " + errors[rank]);
}

/// The stages that this rank writes: those that no lower rank holds.
std::vector<const StageTensors*> own_stages(Transport& transport, const std::vector<StageTensors>& stages) {
  std::string numbers;
  for (const StageTensors& stage : stages) numbers += std::to_string(stage.stage) + " ";
  const std::vector<std::string> of_ranks = transport.all_gather(numbers);
  std::set<int> taken;
  for (int rank = 0; rank < transport.rank(); ++rank) {
    std::istringstream text(of_ranks[rank]);
    for (int stage = 0; text >> stage;) taken.insert(stage);
  }
  std::vector<const StageTensors*> own;
  for (const StageTensors& stage : stages)
    if (taken.insert(stage.stage).second) own.push_back(&stage);
  return own;
}

/// Which file has which tensor, from all ranks' names: "FILE\0NAME\0…\n" for each file.
std::map<std::string, std::string> gather_files(Transport& transport,
                                                const std::vector<const StageTensors*>& own) {
  std::string mine;
  for (const StageTensors* stage : own)
    for (const NamedTensor& tensor : stage->tensors)
      mine.append(stage_file(stage->stage)).append(1, '\0').append(tensor.name).append(1, '\0');
  std::map<std::string, std::string> files;
  for (const std::string& part : transport.all_gather(mine)) {
    std::istringstream text(part);
    for (std::string file, name; std::getline(text, file, '\0') && std::getline(text, name, '\0');)
      if (!files.emplace(name, file).second)
        throw InvalidConfig("two stages have a tensor of the name \"" + name + "\": " + files[name] +
                            " and " + file);
  }
  return files;
}

/// Removes checkpoints until `keep` are left, the oldest first, and what was never finished. Failing to is no
/// reason to stop a run.
void remove_old(const std::string& directory, const std::string& newest, int keep) {
  std::error_code error;
  std::vector<std::pair<fs::file_time_type, fs::path>> others;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.ends_with(kPartial)) fs::remove_all(entry.path(), error);
    if (is_step_name(name) && name != newest) others.emplace_back(entry.last_write_time(error), entry.path());
  }
  std::sort(others.rbegin(), others.rend());
  for (std::size_t i = std::max(keep, 1) - 1; i < others.size(); ++i) fs::remove_all(others[i].second, error);
}

std::string read_text(const std::string& path) {
  const DiskFile file = DiskFile::open(path);
  const std::uint64_t size = file.size();
  if (size > kMostIndexBytes) throw Error(path + " is too large: " + std::to_string(size) + " bytes");
  std::string text(size, '\0');
  file.read(0, text.data(), text.size());
  return text;
}

/// The checkpoint that `latest` names, or else the one of the highest step.
std::string newest_in(const std::string& directory) {
  std::error_code error;
  const fs::path latest = fs::path(directory) / kLatestFile;
  if (fs::exists(latest, error)) {
    std::string name = read_text(latest.string());
    name.erase(std::find(name.begin(), name.end(), '\n'), name.end());
    if (is_step_name(name) && fs::exists(fs::path(directory) / name / kIndexFile, error)) return name;
  }
  std::string newest;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (is_step_name(name) && fs::exists(entry.path() / kIndexFile, error)) newest = std::max(newest, name);
  }
  if (newest.empty()) throw Error("there is no checkpoint in " + directory);
  return newest;
}

}  // namespace

void save_checkpoint(Transport& transport, const std::string& directory, std::int64_t step,
                     const std::vector<StageTensors>& stages, const std::map<std::string, std::string>& state,
                     int keep) {
  const std::string name = step_name(step);
  const std::string place = (fs::path(directory) / name).string();
  const std::string partial = place + kPartial;
  const std::string what = "cannot save the checkpoint " + place;
  const bool leads = transport.rank() == 0;

  const std::vector<const StageTensors*> own = own_stages(transport, stages);
  const CheckpointIndex index{step, state, gather_files(transport, own)};
  together(transport, what, [&] {
    if (!leads) return;
    fs::remove_all(partial);
    fs::create_directories(partial);
  });
  together(transport, what, [&] {
    for (const StageTensors* stage : own)
      write_safetensors((fs::path(partial) / stage_file(stage->stage)).string(), stage->tensors,
                        {{"format", "pt"}});
  });
  together(transport, what, [&] {
    if (!leads) return;
    replace_file((fs::path(partial) / kIndexFile).string(),
                 [&](DiskFile& file) { file.write(format_index(index)); });
    sync_folder(partial);
    move_into_place(partial, place);
    replace_file((fs::path(directory) / kLatestFile).string(),
                 [&](DiskFile& file) { file.write(name + "\n"); });
    remove_old(directory, name, keep);
  });
}

Checkpoint::Checkpoint(const std::string& path) : path_(path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) throw Error("there is no folder " + path);
  if (!fs::exists(fs::path(path) / kIndexFile, error)) path_ = (fs::path(path) / newest_in(path)).string();
  const std::string file = (fs::path(path_) / kIndexFile).string();
  CheckpointIndex index = parse_index(read_text(file), file);
  step_ = index.step;
  state_ = std::move(index.state);
  files_ = std::move(index.files);
}

void Checkpoint::load(const std::vector<NamedTensor>& tensors) const {
  std::map<std::string, SafetensorsFile> open;
  for (const NamedTensor& tensor : tensors) {
    const auto place = files_.find(tensor.name);
    if (place == files_.end())
      throw Error("the checkpoint " + path_ + " has no tensor \"" + tensor.name + "\"");
    auto file = open.find(place->second);
    if (file == open.end())
      file = open.emplace(place->second, SafetensorsFile((fs::path(path_) / place->second).string())).first;
    file->second.read_into(tensor.name, tensor.tensor);
  }
}

}  // namespace counterflow::runtime
