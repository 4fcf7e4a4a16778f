// The index file of a checkpoint, and the names in its folder.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace counterflow::runtime {

constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr const char* kLatestFile = "latest";

struct CheckpointIndex {
  std::int64_t step = 0;
  std::map<std::string, std::string> state;
  std::map<std::string, std::string> files;  ///< of each tensor
};

std::string format_index(const CheckpointIndex& index);

/// Throws Error that begins with `file`. Names of files are plain: none leads out of the folder.
CheckpointIndex parse_index(std::string_view json, const std::string& file);

std::string step_name(std::int64_t step);    ///< "step-000000200"
bool is_step_name(std::string_view name);    ///< of a checkpoint that is whole
std::string stage_file(std::int64_t stage);  ///< "stage-00003.safetensors"

}  // namespace counterflow::runtime
