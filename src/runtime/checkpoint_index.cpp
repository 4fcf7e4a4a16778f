#include "checkpoint_index.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

constexpr const char* kFormat = "counterflow checkpoint 1";
constexpr std::string_view kStepPrefix = "step-";

using Json = nlohmann::json;

std::map<std::string, std::string> texts(const Json& object, const char* key, const std::string& file) {
  if (!object.contains(key) || !object[key].is_object())
    throw Error(file + ": \"" + key + "\" should be an object of texts");
  std::map<std::string, std::string> texts;
  for (const auto& [name, value] : object[key].items()) {
    if (!value.is_string()) throw Error(file + ": \"" + name + "\" in \"" + key + "\" should be a text");
    texts.emplace(name, value.get<std::string>());
  }
  return texts;
}

bool is_plain(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

std::string numbered(const char* format, std::int64_t number) {
  char text[64];
  std::snprintf(text, sizeof text, format, static_cast<long long>(number));
  return text;
}

}  // namespace

std::string format_index(const CheckpointIndex& index) {
  const Json json = {
      {"metadata", {{"format", kFormat}, {"step", index.step}, {"state", index.state}}},
      {"weight_map", index.files},
  };
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

CheckpointIndex parse_index(std::string_view text, const std::string& file) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("metadata") || !json["metadata"].is_object())
    throw Error(file + ": no index of a checkpoint");
  const Json& metadata = json["metadata"];
  if (!metadata.contains("format") || metadata["format"] != kFormat)
    throw Error(file + ": \"format\" should be \"" + kFormat + "\"");
  if (!metadata.contains("step") || !metadata["step"].is_number_unsigned())
    throw Error(file + ": \"step\" should be a number");
  CheckpointIndex index;
  index.step = metadata["step"].get<std::int64_t>();
  index.state = texts(metadata, "state", file);
  index.files = texts(json, "weight_map", file);
  for (const auto& [tensor, name] : index.files)
    if (!is_plain(name))
      throw Error(file + ": \"" + tensor + "\" should be in a file of this folder, not \"" + name + "\"");
  return index;
}

std::string step_name(std::int64_t step) {
  return numbered("step-%09lld", step);
}

bool is_step_name(std::string_view name) {
  return name.size() > kStepPrefix.size() && name.substr(0, kStepPrefix.size()) == kStepPrefix &&
         std::all_of(name.begin() + kStepPrefix.size(), name.end(),
                     [](char c) { return c >= '0' && c <= '9'; });
}

std::string stage_file(std::int64_t stage) {
  return numbered("stage-%05lld.safetensors", stage);
}

}  // namespace counterflow::runtime
