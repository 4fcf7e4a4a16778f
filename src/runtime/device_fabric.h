// Moves tensors between GPUs: what the transports over NCCL and over the copy engines do each in its way.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "counterflow/runtime/tensors.h"

namespace counterflow::runtime {

/// One direction between two ranks. What it is asked for is done in order, on its stream; nothing waits for
/// the device. Throws TransportError.
class DeviceLine {
 public:
  virtual ~DeviceLine() = default;

  virtual cudaStream_t stream() const = 0;

  /// Of contiguous tensors. Undefined and empty ones take no part.
  virtual void send(const Tensors& tensors) = 0;
  virtual void receive(Tensors& tensors) = 0;
};

/// Ranks that exchange tensors all at once, ordered with the current stream of the device.
class DeviceGroup {
 public:
  virtual ~DeviceGroup() = default;

  /// Starts to give parts[own] to all other members and to fill in theirs, which are alike. The function that
  /// it returns makes the current stream wait until that is done.
  virtual std::function<void()> exchange(std::size_t own, Tensors& parts) = 0;

  /// Copies member `root`'s tensor into everybody's.
  virtual void broadcast(std::size_t own, std::size_t root, at::Tensor& whole) = 0;
};

/// Where ranks meet before there are lines between them.
class Meeting {
 public:
  virtual ~Meeting() = default;

  virtual void set(const std::string& key, const std::string& value) = 0;

  /// Waits for a key, no longer than the transport's time limit. Throws TimeoutError or PeerFailed.
  virtual std::string fetch(const std::string& key) = 0;

  /// Waits until `ready` says so, no longer than the transport's time limit. Throws PeerFailed, or
  /// TimeoutError, whose text opens with `otherwise`.
  virtual void wait_until(const std::string& otherwise, const std::function<bool()>& ready) = 0;

  /// Waits until a stream is empty. Throws as wait_until().
  virtual void drain(cudaStream_t stream) = 0;

  /// Throws PeerFailed where a rank has failed.
  virtual void check_alive() = 0;
};

/// Makes lines and groups and keeps them.
class DeviceFabric {
 public:
  virtual ~DeviceFabric() = default;

  /// For messages: "NCCL".
  virtual const char* name() const = 0;

  /// Collective between the two ranks, one of which is this one. All ranks open theirs in the same order.
  virtual DeviceLine& open_line(int from, int to) = 0;

  /// Collective among the ranks, which ascend.
  virtual DeviceGroup& open_group(int number, const std::vector<std::int32_t>& ranks) = 0;

  /// What has gone wrong behind the host's back, if anything has; a host that has been inside the fabric for
  /// longer than the limit is. Any thread.
  virtual std::optional<std::string> find_error(std::chrono::milliseconds limit) {
    static_cast<void>(limit);
    return std::nullopt;
  }

  /// Ends all transfers, so that no stream waits for one any more. Any thread, once.
  virtual void abort() noexcept = 0;

  /// After the last transfer, unless abort() was called: waits, for a while, until this rank's transfers are
  /// done.
  virtual void close() noexcept {}
};

}  // namespace counterflow::runtime
