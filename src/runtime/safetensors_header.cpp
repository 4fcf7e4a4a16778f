#include "safetensors_header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

using Entry = SafetensorsFile::Entry;

constexpr std::size_t kMostDimensions = 64;  // torch's own limit

struct TypeName {
  std::string_view name;
  at::ScalarType type;
};
constexpr std::array kTypes{
    TypeName{"BOOL", at::kBool},
    TypeName{"U8", at::kByte},
    TypeName{"I8", at::kChar},
    TypeName{"F8_E5M2", at::kFloat8_e5m2},
    TypeName{"F8_E4M3", at::kFloat8_e4m3fn},
    TypeName{"I16", at::kShort},
    TypeName{"U16", at::kUInt16},
    TypeName{"F16", at::kHalf},
    TypeName{"BF16", at::kBFloat16},
    TypeName{"I32", at::kInt},
    TypeName{"U32", at::kUInt32},
    TypeName{"F32", at::kFloat},
    TypeName{"F64", at::kDouble},
    TypeName{"I64", at::kLong},
    TypeName{"U64", at::kUInt64},
};

/// Takes the header's values as the JSON reader meets them, and refuses what the format does not have:
/// nothing is kept but the entries themselves, whatever the text holds.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(SafetensorsHeader& header, const std::string& file) : header_(header), file_(file) {}

  bool key(std::string& name) override {
    if (at_ == At::kTop) {
      if (!seen_.insert(name).second) fail("\"" + name + "\" comes twice");
      name_ = name;
      expect_ = name == "__metadata__" ? "an object of texts" : "an object";
    } else if (at_ == At::kMetadata) {
      name_ = name;
    } else {
      field(name);
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (at_ == At::kStart) {
      at_ = At::kTop;
    } else if (at_ == At::kTop) {
      at_ = name_ == "__metadata__" ? At::kMetadata : At::kTensor;
      tensor_ = {};
    } else {
      fail("an object where " + expected() + " should be");
    }
    return true;
  }

  bool end_object() override {
    if (at_ == At::kTensor) finish_tensor();
    at_ = at_ == At::kTop ? At::kEnd : At::kTop;
    return true;
  }

  bool start_array(std::size_t) override {
    if (at_ != At::kTensor || (field_ != "shape" && field_ != "data_offsets"))
      fail("a list where " + expected() + " should be");
    at_ = At::kNumbers;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    at_ = At::kTensor;
    if (field_ == "shape")
      tensor_.shape = std::move(numbers_);
    else
      tensor_.offsets = std::move(numbers_);
    return true;
  }

  bool number_unsigned(std::uint64_t value) override {
    if (at_ != At::kNumbers) fail("a number where " + expected() + " should be");
    if (numbers_.size() == kMostDimensions)
      fail("\"" + name_ + "\" has more than " + std::to_string(kMostDimensions) + " dimensions");
    numbers_.push_back(value);
    return true;
  }

  bool string(std::string& value) override {
    if (at_ == At::kMetadata) {
      if (!header_.metadata.emplace(name_, value).second) fail("metadata \"" + name_ + "\" comes twice");
    } else if (at_ == At::kTensor && field_ == "dtype") {
      tensor_.type = type_of(value);
    } else {
      fail("a text where " + expected() + " should be");
    }
    return true;
  }

  bool null() override { fail("null where " + expected() + " should be"); }
  bool boolean(bool) override { fail("true or false where " + expected() + " should be"); }
  bool number_integer(std::int64_t) override { fail("a negative number"); }
  bool number_float(double, const std::string&) override { fail("a number that is not whole"); }
  bool binary(nlohmann::json::binary_t&) override { fail("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    fail("no JSON at byte " + std::to_string(position));
  }

  bool at_end() const { return at_ == At::kEnd; }

 private:
  enum class At { kStart, kTop, kMetadata, kTensor, kNumbers, kEnd };

  struct Described {
    std::optional<at::ScalarType> type;
    std::optional<std::vector<std::uint64_t>> shape, offsets;
    std::set<std::string> fields;
  };

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(file_ + ": safetensors header: " + what);
  }

  std::string expected() const {
    switch (at_) {
      case At::kStart:
        return "an object";
      case At::kMetadata:
        return "a text";
      case At::kNumbers:
        return "a number";
      case At::kTensor:
        return "the " + field_ + " of \"" + name_ + "\"";
      default:
        return expect_;
    }
  }

  void field(const std::string& name) {
    if (name != "dtype" && name != "shape" && name != "data_offsets")
      fail("\"" + name_ + "\" has an unknown field \"" + name + "\"");
    if (!tensor_.fields.insert(name).second) fail("\"" + name_ + "\" has " + name + " twice");
    field_ = name;
  }

  at::ScalarType type_of(const std::string& name) const {
    for (const TypeName& type : kTypes)
      if (type.name == name) return type.type;
    fail("\"" + name_ + "\" has the unknown dtype \"" + name + "\"");
  }

  void finish_tensor() {
    if (!tensor_.type || !tensor_.shape || !tensor_.offsets)
      fail("\"" + name_ + "\" lacks its dtype, shape or data_offsets");
    if (tensor_.offsets->size() != 2) fail("\"" + name_ + "\" does not have two data_offsets");
    Entry entry;
    entry.type = *tensor_.type;
    entry.begin = (*tensor_.offsets)[0];
    entry.end = (*tensor_.offsets)[1];
    std::uint64_t bytes = c10::elementSize(entry.type);
    bool empty = false;
    for (const std::uint64_t size : *tensor_.shape) {
      // Also for empty tensors: torch's strides are products of the other sizes.
      if (size > 0 && (size > kMost / bytes)) fail("\"" + name_ + "\" has a shape beyond all memory");
      if (size > 0) bytes *= size;
      empty = empty || size == 0;
      entry.shape.push_back(static_cast<std::int64_t>(size));
    }
    if (empty) bytes = 0;
    if (entry.end < entry.begin || entry.end - entry.begin != bytes)
      fail("\"" + name_ + "\" has a shape of " + std::to_string(bytes) + " bytes, but data_offsets " +
           std::to_string(entry.begin) + " and " + std::to_string(entry.end));
    header_.entries.emplace(name_, std::move(entry));
  }

  static constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();

  SafetensorsHeader& header_;
  const std::string& file_;
  At at_ = At::kStart;
  std::string name_, field_, expect_ = "an object";
  std::set<std::string> seen_;
  std::vector<std::uint64_t> numbers_;
  Described tensor_;
};

/// The tensors must fill the data, one after another.
void check_places(const SafetensorsHeader& header, std::uint64_t data_bytes, const std::string& file) {
  std::vector<std::pair<const Entry*, const std::string*>> places;
  for (const auto& [name, entry] : header.entries) places.emplace_back(&entry, &name);
  std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->begin, a.first->end) < std::pair(b.first->begin, b.first->end);
  });
  std::uint64_t end = 0;
  for (const auto& [entry, name] : places) {
    if (entry->begin != end)
      throw Error(file + ": safetensors header: \"" + *name + "\" begins at byte " +
                  std::to_string(entry->begin) + (entry->begin < end ? ", inside" : ", not at the end of") +
                  " the tensor before it, which ends at " + std::to_string(end));
    end = entry->end;
  }
  if (end != data_bytes)
    throw Error(file + ": the header describes " + std::to_string(end) + " bytes of tensors; the file has " +
                std::to_string(data_bytes));
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes,
                                           const std::string& file) {
  SafetensorsHeader header;
  HeaderReader reader(header, file);
  if (json.empty() || json.front() != '{')
    throw Error(file + ": safetensors header: it does not begin with \"{\"");
  nlohmann::json::sax_parse(json, &reader);
  check_places(header, data_bytes, file);
  return header;
}

std::string_view safetensors_name(at::ScalarType type) {
  for (const TypeName& known : kTypes)
    if (known.type == type) return known.name;
  return {};
}

}  // namespace counterflow::runtime
