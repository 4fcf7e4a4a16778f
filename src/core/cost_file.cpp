// Cost files: costs of a model as JSON. schedules/README.md describes them.
#include <algorithm>
#include <array>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>

#include "counterflow/cost_model.h"
#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/placement.h"
#include "file.h"
#include "json_tree.h"

namespace counterflow {
namespace {

constexpr std::size_t kMostFileBytes = std::size_t{64} << 20;
constexpr Time kMostTime = 1'000'000'000'000;
constexpr std::int64_t kMostBytes = std::int64_t{1} << 60;

struct StageField {
  const char* key;
  std::int64_t StageCost::*member;
  std::int64_t most;
  bool required;
};

constexpr std::array kStageFields = {
    StageField{"f", &StageCost::f, kMostTime, true},
    StageField{"i", &StageCost::i, kMostTime, true},
    StageField{"w", &StageCost::w, kMostTime, true},
    StageField{"activation_bytes", &StageCost::activation_bytes, kMostBytes, false},
    StageField{"weight_store_bytes", &StageCost::weight_store_bytes, kMostBytes, false},
    StageField{"output_bytes", &StageCost::output_bytes, kMostBytes, false},
    StageField{"parameter_bytes", &StageCost::parameter_bytes, kMostBytes, false},
    StageField{"gradient_bytes", &StageCost::gradient_bytes, kMostBytes, false},
    StageField{"optimizer_bytes", &StageCost::optimizer_bytes, kMostBytes, false},
};

std::string list_of(const std::vector<const char*>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " and " : ", ";
    out += words[i];
  }
  return out;
}

class CostReader {
 public:
  explicit CostReader(const Source& source) : source_(source) {}

  CostModel read() const {
    const JsonValue root = parse_json(source_);
    check_object(root, "a cost file", {"unit", "stages", "layers", "overlap", "p2p", "links", "memory_bytes"},
                 {});
    check_stages_or_layers(root);
    CostModel costs;
    for (const JsonValue& member : root.items) {
      if (member.key == "unit" && member.kind != Kind::kString) refuse(member, "unit", "a text");
      if (member.key == "stages") costs.stages = stages(member, "stages");
      if (member.key == "layers") costs.layers = stages(member, "layers");
      if (member.key == "overlap") read_overlap(member, costs);
      if (member.key == "p2p") costs.p2p = number(member, "p2p", kMostTime);
      if (member.key == "links") read_links(member, costs);
      if (member.key == "memory_bytes") read_memory(member, costs);
    }
    return costs;
  }

 private:
  using Kind = JsonValue::Kind;
  using Pair = std::pair<std::int32_t, std::int32_t>;

  [[noreturn]] void refuse(const JsonValue& value, const std::string& path,
                           const std::string& expected) const {
    source_.fail(value.offset,
                 path + ": expected " + expected + ", found " + quote(json_text(source_, value.offset)));
  }

  /// That a value is an object which has only the keys it may have, each once, and all those it must have.
  void check_object(const JsonValue& value, const std::string& path, const std::vector<const char*>& keys,
                    const std::vector<const char*>& required) const {
    if (value.kind != Kind::kObject) refuse(value, path, "an object with " + list_of(keys));
    for (auto member = value.items.begin(); member != value.items.end(); ++member) {
      const auto has_key = [&](const auto& key) { return member->key == key; };
      if (std::none_of(keys.begin(), keys.end(), has_key)) {
        source_.fail(source_.offset_of(member->key),
                     path + ": expected a key out of " + list_of(keys) + ", found " + quote(member->key));
      }
      if (std::any_of(value.items.begin(), member,
                      [&](const JsonValue& other) { return other.key == member->key; })) {
        source_.fail(source_.offset_of(member->key),
                     path + ": expected " + std::string(member->key) + " once, found it again");
      }
    }
    for (const char* key : required) {
      if (find(value, key) == nullptr)
        source_.fail(value.offset, path + ": expected the key " + key + ", found none");
    }
  }

  void check_stages_or_layers(const JsonValue& root) const {
    const bool has_layers = find(root, "layers") != nullptr;
    if (has_layers == (find(root, "stages") != nullptr)) {
      source_.fail(root.offset,
                   std::string("a cost file: expected one of the keys stages and layers, found ") +
                       (has_layers ? "both" : "none"));
    }
  }

  static const JsonValue* find(const JsonValue& object, std::string_view key) {
    const auto found = std::find_if(object.items.begin(), object.items.end(),
                                    [&](const JsonValue& member) { return member.key == key; });
    return found == object.items.end() ? nullptr : &*found;
  }

  std::int64_t number(const JsonValue& value, const std::string& path, std::int64_t most) const {
    if (value.kind != Kind::kInteger || value.integer < 0 || value.integer > most) {
      refuse(value, path, "a whole number from 0 to " + std::to_string(most));
    }
    return value.integer;
  }

  std::vector<StageCost> stages(const JsonValue& value, const std::string& name) const {
    std::vector<const char*> keys, required;
    for (const StageField& field : kStageFields) {
      keys.push_back(field.key);
      if (field.required) required.push_back(field.key);
    }
    check_object(value, name, keys, required);
    std::vector<StageCost> stages(count_stages(value, name));
    for (const StageField& field : kStageFields) {
      const JsonValue* given = find(value, field.key);
      if (given == nullptr) continue;
      const std::string path = name + "." + field.key;
      for (std::size_t stage = 0; stage < stages.size(); ++stage) {
        const bool is_list = given->kind == Kind::kArray;
        const JsonValue& one = is_list ? given->items[stage] : *given;
        stages[stage].*field.member =
            number(one, is_list ? path + "[" + std::to_string(stage) + "]" : path, field.most);
      }
    }
    return stages;
  }

  /// The length of the lists, 1 where there are none.
  std::size_t count_stages(const JsonValue& value, const std::string& name) const {
    const JsonValue* first = nullptr;
    for (const JsonValue& member : value.items) {
      if (member.kind != Kind::kArray) continue;
      const std::string path = name + "." + std::string(member.key);
      const std::size_t count = member.items.size();
      if (count < 1 || count > Placement::kMaxStages) {
        source_.fail(member.offset, path + ": expected 1 to " + std::to_string(Placement::kMaxStages) +
                                        " numbers, found " + std::to_string(count));
      }
      if (first == nullptr) first = &member;
      if (count == first->items.size()) continue;
      std::string expected = path + ": expected " + std::to_string(first->items.size());
      expected.append(" numbers as in ").append(name).append(".").append(first->key);
      source_.fail(member.offset, expected.append(", found ").append(std::to_string(count)));
    }
    return first == nullptr ? 1 : first->items.size();
  }

  /// Of all ranks, or a list by rank.
  void read_memory(const JsonValue& value, CostModel& costs) const {
    if (value.kind != Kind::kArray) {
      costs.memory_bytes = number(value, "memory_bytes", kMostBytes);
      return;
    }
    for (const JsonValue& rank : value.items)
      costs.memory_of_rank.push_back(
          number(rank, "memory_bytes[" + std::to_string(costs.memory_of_rank.size()) + "]", kMostBytes));
  }

  void read_overlap(const JsonValue& value, CostModel& costs) const {
    if (value.kind != Kind::kObject) {
      costs.overlap = number(value, "overlap", kMostTime);
      return;
    }
    check_object(value, "overlap", {"default", "pairs"}, {});
    if (const JsonValue* given = find(value, "default"))
      costs.overlap = number(*given, "overlap.default", kMostTime);
    for_each_pair(value, "overlap.pairs", [&](const JsonValue& pair, const std::string& path) {
      check_object(pair, path, {"forward", "backward", "time"}, {"forward", "backward", "time"});
      const Pair stages = indices(pair, path, {"forward", "backward"}, Placement::kMaxStages);
      const Time time = number(*find(pair, "time"), path + ".time", kMostTime);
      if (!costs.overlaps.emplace(stages, time).second) refuse_again(pair, path, "stages", stages);
    });
  }

  void read_links(const JsonValue& value, CostModel& costs) const {
    check_object(value, "links", {"default", "pairs"}, {});
    if (const JsonValue* given = find(value, "default")) {
      check_object(*given, "links.default", {"latency", "bytes_per_time"}, {});
      costs.link = link(*given, "links.default");
    }
    for_each_pair(value, "links.pairs", [&](const JsonValue& pair, const std::string& path) {
      check_object(pair, path, {"from", "to", "latency", "bytes_per_time"}, {"from", "to"});
      const Pair ranks = indices(pair, path, {"from", "to"}, Placement::kMaxRanks);
      if (!costs.link_of.emplace(ranks, link(pair, path)).second) refuse_again(pair, path, "ranks", ranks);
    });
  }

  template <typename Visit>
  void for_each_pair(const JsonValue& value, const std::string& path, Visit visit) const {
    const JsonValue* pairs = find(value, "pairs");
    if (pairs == nullptr) return;
    if (pairs->kind != Kind::kArray) refuse(*pairs, path, "a list");
    for (std::size_t i = 0; i < pairs->items.size(); ++i) {
      visit(pairs->items[i], path + "[" + std::to_string(i) + "]");
    }
  }

  Pair indices(const JsonValue& pair, const std::string& path, const std::array<const char*, 2>& keys,
               std::int32_t limit) const {
    const auto index = [&](const char* key) {
      return static_cast<std::int32_t>(number(*find(pair, key), path + "." + key, limit - 1));
    };
    return {index(keys[0]), index(keys[1])};
  }

  Link link(const JsonValue& value, const std::string& path) const {
    Link link;
    if (const JsonValue* given = find(value, "latency"))
      link.latency = number(*given, path + ".latency", kMostTime);
    if (const JsonValue* given = find(value, "bytes_per_time")) {
      link.bytes_per_time = number(*given, path + ".bytes_per_time", kMostBytes);
    }
    return link;
  }

  [[noreturn]] void refuse_again(const JsonValue& value, const std::string& path, const char* what,
                                 const Pair& pair) const {
    source_.fail(value.offset, path + ": expected every pair of " + what + " once, found " +
                                   std::to_string(pair.first) + " and " + std::to_string(pair.second) +
                                   " again");
  }

  const Source& source_;
};

using Json = nlohmann::ordered_json;

std::int64_t checked(const std::string& path, std::int64_t value, std::int64_t most) {
  if (value >= 0 && value <= most) return value;
  throw InvalidConfig("costs: " + path + ": expected 0 to " + std::to_string(most) + ", found " +
                      std::to_string(value));
}

/// Numbers alone where all stages have the same; what no stage has is left out.
Json stages_json(const std::vector<StageCost>& stages) {
  if (stages.empty()) throw InvalidConfig("costs: expected one stage or more, found none");
  Json out = Json::object();
  bool has_list = false;
  const auto list = [&](const StageField& field) {
    Json values = Json::array();
    for (const StageCost& stage : stages)
      values.push_back(checked(std::string("stages.") + field.key, stage.*field.member, field.most));
    return values;
  };
  for (const StageField& field : kStageFields) {
    const std::int64_t first = stages[0].*field.member;
    Json values = list(field);
    const bool same =
        std::all_of(values.begin(), values.end(), [&](const Json& value) { return value == first; });
    if (same && first == 0 && !field.required) continue;
    has_list = has_list || !same;
    out[field.key] = same ? Json(first) : std::move(values);
  }
  // A list, however uniform, says for how many stages the costs are.
  if (!has_list && stages.size() > 1) out["f"] = list(kStageFields[0]);
  return out;
}

Json link_json(const std::string& path, const Link& link) {
  Json out = Json::object();
  out["latency"] = checked(path + ".latency", link.latency, kMostTime);
  if (link.bytes_per_time != 0)
    out["bytes_per_time"] = checked(path + ".bytes_per_time", link.bytes_per_time, kMostBytes);
  return out;
}

/// Containers of containers one item a line, everything else on one line.
void append_pretty(std::string& out, const Json& value, const std::string& indent) {
  const bool nested =
      std::any_of(value.begin(), value.end(), [](const Json& item) { return item.is_structured(); });
  if (!value.is_structured() || !nested) {
    out += value.dump();
    return;
  }
  out += value.is_object() ? "{" : "[";
  const std::string inner = indent + "  ";
  const char* joint = "\n";
  for (const auto& [key, item] : value.items()) {
    out += joint + inner;
    if (value.is_object()) out += Json(key).dump() + ": ";
    append_pretty(out, item, inner);
    joint = ",\n";
  }
  out += "\n" + indent + (value.is_object() ? "}" : "]");
}

}  // namespace

CostModel parse_cost_model(std::string_view json, const std::string& file) {
  const Source source{json, file};
  return CostReader(source).read();
}

CostModel read_cost_file(const std::string& path) {
  return parse_cost_model(read_text(path, kMostFileBytes), path == "-" ? "<stdin>" : path);
}

std::string format_cost_model(const CostModel& costs, const std::string& unit) {
  Json out = Json::object();
  if (!unit.empty()) out["unit"] = printable(unit);
  const bool of_layers = !costs.layers.empty();
  out[of_layers ? "layers" : "stages"] = stages_json(of_layers ? costs.layers : costs.stages);
  Json overlap = Json::object();
  if (costs.overlap) overlap["default"] = checked("overlap", *costs.overlap, kMostTime);
  for (const auto& [pair, time] : costs.overlaps) {
    overlap["pairs"].push_back(
        {{"forward", checked("overlap.forward", pair.first, Placement::kMaxStages - 1)},
         {"backward", checked("overlap.backward", pair.second, Placement::kMaxStages - 1)},
         {"time", checked("overlap.time", time, kMostTime)}});
  }
  if (!overlap.empty()) out["overlap"] = costs.overlaps.empty() ? overlap["default"] : overlap;
  if (costs.p2p != 0) out["p2p"] = checked("p2p", costs.p2p, kMostTime);
  Json links = Json::object();
  if (costs.link) links["default"] = link_json("links.default", *costs.link);
  for (const auto& [pair, link] : costs.link_of) {
    Json one = {{"from", checked("links.from", pair.first, Placement::kMaxRanks - 1)},
                {"to", checked("links.to", pair.second, Placement::kMaxRanks - 1)}};
    one.update(link_json("links", link));
    links["pairs"].push_back(std::move(one));
  }
  if (!links.empty()) out["links"] = std::move(links);
  if (costs.memory_bytes != 0) out["memory_bytes"] = checked("memory_bytes", costs.memory_bytes, kMostBytes);
  if (!costs.memory_of_rank.empty()) {
    Json& memory = out["memory_bytes"] = Json::array();
    for (const std::int64_t bytes : costs.memory_of_rank)
      memory.push_back(checked("memory_bytes", bytes, kMostBytes));
  }
  std::string text;
  append_pretty(text, out, "");
  return text + "\n";
}

}  // namespace counterflow
