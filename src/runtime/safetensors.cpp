#include "counterflow/runtime/safetensors.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "counterflow/error.h"
#include "disk.h"
#include "safetensors_header.h"

namespace counterflow::runtime {
namespace {

static_assert(std::endian::native == std::endian::little, "the format's numbers are little-endian");

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kAlignment = 8;
constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // the reference implementation's limit

std::string_view bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()};
}

void check_for_writing(const std::string& path, const NamedTensor& tensor) {
  const std::string what = path + ": tensor \"" + tensor.name + "\"";
  if (tensor.name == "__metadata__") throw InvalidConfig(what + " has the name that the format keeps");
  if (!tensor.tensor.defined()) throw InvalidConfig(what + " is undefined");
  if (safetensors_name(tensor.tensor.scalar_type()).empty())
    throw InvalidConfig(what + " is " + c10::toString(tensor.tensor.scalar_type()) +
                        ", a type that safetensors files lack");
}

/// Largest elements first, so that all lie at multiples of their size; then by name.
std::vector<NamedTensor> in_order_of_writing(const std::string& path, std::vector<NamedTensor> tensors) {
  for (const NamedTensor& tensor : tensors) check_for_writing(path, tensor);
  std::sort(tensors.begin(), tensors.end(), [](const NamedTensor& a, const NamedTensor& b) {
    const auto size_a = a.tensor.element_size(), size_b = b.tensor.element_size();
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
  return tensors;
}

std::string header_of(const std::string& path, const std::vector<NamedTensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    const std::uint64_t end = offset + tensor.tensor.nbytes();
    if (header.contains(tensor.name))
      throw InvalidConfig(path + ": two tensors have the name \"" + tensor.name + "\"");
    header[tensor.name] = {{"dtype", safetensors_name(tensor.tensor.scalar_type())},
                           {"shape", tensor.tensor.sizes().vec()},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw InvalidConfig(path + ": a name or metadata is not UTF-8");
  }
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  return text;
}

}  // namespace

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const c10::NoGradGuard no_grad;
  const std::vector<NamedTensor> ordered = in_order_of_writing(path, tensors);
  const std::string header = header_of(path, ordered, metadata);
  replace_file(path, [&](DiskFile& file) {
    const std::uint64_t length = header.size();
    file.write({reinterpret_cast<const char*>(&length), kLengthBytes});
    file.write(header);
    for (const NamedTensor& tensor : ordered) file.write(bytes_of(tensor.tensor.cpu().contiguous()));
  });
}

class SafetensorsFile::Descriptor : public DiskFile {
 public:
  explicit Descriptor(const std::string& path) : DiskFile(DiskFile::open(path)) {}
};

SafetensorsFile::SafetensorsFile(const std::string& path)
    : path_(path), file_(std::make_unique<Descriptor>(path)) {
  const std::uint64_t size = file_->size();
  std::uint64_t length = 0;
  if (size < kLengthBytes)
    throw Error(path + ": no safetensors file: " + std::to_string(size) + " bytes are too few");
  file_->read(0, &length, kLengthBytes);
  if (length > size - kLengthBytes || length > kMostHeaderBytes)
    throw Error(path + ": no safetensors file: its header would have " + std::to_string(length) +
                " bytes, the file has " + std::to_string(size));
  std::string json(length, '\0');
  file_->read(kLengthBytes, json.data(), json.size());
  data_offset_ = kLengthBytes + length;
  SafetensorsHeader header = parse_safetensors_header(json, size - data_offset_, path);
  entries_ = std::move(header.entries);
  metadata_ = std::move(header.metadata);
}

SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw Error(path_ + ": there is no tensor \"" + name + "\"");
  return found->second;
}

at::Tensor SafetensorsFile::read(const std::string& name) const {
  const Entry& place = entry(name);
  const at::Tensor tensor = at::empty(place.shape, place.type);
  auto* bytes = static_cast<unsigned char*>(tensor.mutable_data_ptr());
  const std::uint64_t size = place.end - place.begin;
  file_->read(data_offset_ + place.begin, bytes, size);
  // Any other value of a bool is undefined behaviour in whatever reads it.
  if (place.type == at::kBool && std::any_of(bytes, bytes + size, [](unsigned char b) { return b > 1; }))
    throw Error(path_ + ": \"" + name + "\" has dtype BOOL and bytes that are neither 0 nor 1");
  return tensor;
}

void SafetensorsFile::read_into(const std::string& name, const at::Tensor& tensor) const {
  const c10::NoGradGuard no_grad;
  const Entry& place = entry(name);
  if (tensor.scalar_type() != place.type || tensor.sizes() != at::IntArrayRef(place.shape))
    throw Error(path_ + ": \"" + name + "\" is " + c10::toString(place.type) + " " +
                c10::str(at::IntArrayRef(place.shape)) + "; expected was " +
                c10::toString(tensor.scalar_type()) + " " + c10::str(tensor.sizes()));
  tensor.copy_(read(name));
}

}  // namespace counterflow::runtime
