// Flags in the memory of a host, which the GPUs of its ranks raise and wait for, and the host raises by plain
// stores: that needs nothing of a driver, nor of a GPU whose queues are held up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace counterflow::runtime {

/// Of a file. Closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const { return number_; }

 private:
  const int number_;
};

/// Pages of a file that the current device reaches, too.
class RegisteredPages {
 public:
  /// The file's descriptor may be closed afterwards. Throws TransportError.
  RegisteredPages(int file, std::size_t bytes);
  ~RegisteredPages();
  RegisteredPages(const RegisteredPages&) = delete;
  RegisteredPages& operator=(const RegisteredPages&) = delete;

  std::byte* data() const { return data_; }
  std::byte* on_device() const { return on_device_; }

 private:
  const std::size_t bytes_;
  std::byte* data_ = nullptr;
  std::byte* on_device_ = nullptr;
};

/// A flag: zero, or one when it is raised.
using Flag = std::uint32_t;

/// Of one rank, for streams of its GPU to wait for. None is raised at first.
class HostFlags {
 public:
  explicit HostFlags(std::size_t count);
  std::byte* on_device(std::size_t flag) const;

  /// By the host. Any thread.
  void raise_all() const;

  /// Says that this rank's GPU does nothing more that others could see.
  void leave() const;

  /// What another rank needs to map them, of kHandleBytes.
  std::string handle() const;
  static constexpr std::size_t kHandleBytes = 32;

 private:
  const std::size_t count_;
  const std::uint64_t token_;  ///< no others' of any process
  const Descriptor file_;
  const RegisteredPages pages_;
};

/// Another rank's HostFlags, for streams of this rank's GPU to raise. Throws TransportError where that rank
/// cannot be reached: on another host, in another container, another user's.
class PeerFlags {
 public:
  explicit PeerFlags(const std::string& handle);

  bool has_left() const;

  std::byte* on_device(std::size_t flag) const;

 private:
  const RegisteredPages pages_;
};

}  // namespace counterflow::runtime
