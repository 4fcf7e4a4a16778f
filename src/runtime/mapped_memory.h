// Memory of a GPU that other ranks of the same host reach into.
#pragma once

#include <cstddef>
#include <string>

namespace counterflow::runtime {

/// Memory on the current device, all zero.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  std::byte* data() const { return data_; }

  /// What another rank needs to map it.
  std::string handle() const;

 private:
  std::byte* data_ = nullptr;
};

/// Another rank's SharedMemory, as the current device sees it. Throws TransportError where the rank is on
/// another host, or the devices cannot reach one another.
class MappedMemory {
 public:
  explicit MappedMemory(const std::string& handle);
  ~MappedMemory();
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  bool is_opened_ = false;
};

}  // namespace counterflow::runtime
