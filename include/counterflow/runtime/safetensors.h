// Tensors in a file: the safetensors format (https://huggingface.co/docs/safetensors, "Format").
//
// A file is the length of its header, the header (JSON: for each tensor its type, shape and place), and the
// tensors' bytes without gaps. The reader believes nothing: a header that does not describe exactly the bytes
// that follow it is an error before any tensor is read, and memory stays in proportion to the file.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "counterflow/runtime/stage.h"

namespace counterflow::runtime {

/// Writes a file, whole or not at all, and has it on the disk when it returns. Tensors of any device and
/// strides. Throws Error where it cannot be written, InvalidConfig where a name comes twice or a tensor is
/// undefined or of a type that the format lacks.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// A file that is being read. Safe to read from several threads.
class SafetensorsFile {
 public:
  /// Where a tensor lies: bytes [begin, end) after the header.
  struct Entry {
    at::ScalarType type = at::kFloat;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };

  /// Opens the file and reads its header. Throws Error, naming the file and what is wrong with it.
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;

  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// A tensor on the CPU. Throws Error where there is none of that name.
  at::Tensor read(const std::string& name) const;

  /// Copies a tensor of the file into one that is there. Throws Error where types or shapes differ.
  void read_into(const std::string& name, const at::Tensor& tensor) const;

 private:
  const Entry& entry(const std::string& name) const;

  std::string path_;
  class Descriptor;
  std::unique_ptr<Descriptor> file_;
  std::uint64_t data_offset_ = 0;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace counterflow::runtime
