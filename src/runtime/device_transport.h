// A transport between GPUs over any fabric of them.
//
// Keeps the contract of counterflow/runtime/transport.h: tells shapes once, posts receives in order, orders
// transfers with the compute stream by events, watches for ranks that have died or are late.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "counterflow/runtime/transport.h"
#include "device_fabric.h"

namespace counterflow::runtime {

/// A connection to the store that all ranks share.
using OpenStore = std::function<c10::intrusive_ptr<c10d::Store>()>;

using MakeFabric = std::function<std::unique_ptr<DeviceFabric>(Meeting&)>;

struct DeviceOptions {
  int device = 0;
  std::chrono::milliseconds heartbeat_timeout = std::chrono::seconds(10);
};

/// Sets the calling thread's device.
std::unique_ptr<Transport> make_device_transport(const OpenStore& open_store, int rank, int num_ranks,
                                                 const DeviceOptions& options, const MakeFabric& make_fabric);

}  // namespace counterflow::runtime
