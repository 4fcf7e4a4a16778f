// Sums over the ranks of a group, on their devices, with the same bits on all.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "counterflow/runtime/tensors.h"
#include "device_fabric.h"
#include "message_shape.h"

namespace counterflow::runtime {

/// One rank's part in them.
class DeviceSums {
 public:
  /// `fabric` is its name, for messages.
  DeviceSums(Meeting& meeting, std::string fabric, int rank, int device)
      : meeting_(meeting), fabric_(std::move(fabric)), rank_(rank), device_(device) {}

  /// As Transport::all_reduce(), over `group`, which is number `number` and of two ranks at least.
  void add_up(DeviceGroup& group, int number, const std::vector<std::int32_t>& ranks, Tensors& tensors);

 private:
  void agree_on_defined(int number, const std::vector<std::int32_t>& ranks, Tensors& tensors);
  MessageShape share_shapes(int number, const std::vector<std::int32_t>& ranks, const Tensors& tensors);

  Meeting& meeting_;
  const std::string fabric_;
  const int rank_;
  const int device_;
  std::map<std::pair<int, std::size_t>, MessageShape> known_;  ///< by group and number of tensors
};

}  // namespace counterflow::runtime
