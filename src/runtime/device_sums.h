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

  /// Sums of a step are told apart by their turn in it: each is the same in every step.
  void begin_step() { turns_.clear(); }

  /// As Transport::all_reduce(), over `group`, which is number `number` and of two ranks at least.
  void add_up(DeviceGroup& group, int number, const std::vector<std::int32_t>& ranks, Tensors& tensors);

 private:
  /// The group's number, and which of its sums in a step.
  using Turn = std::pair<int, int>;

  void agree_on_defined(const Turn& turn, const std::vector<std::int32_t>& ranks, Tensors& tensors);
  MessageShape share_shapes(const Turn& turn, const std::vector<std::int32_t>& ranks, const Tensors& tensors);

  Meeting& meeting_;
  const std::string fabric_;
  const int rank_;
  const int device_;
  std::map<int, int> turns_;  ///< how many sums of a group there were in this step
  std::map<Turn, MessageShape> known_;
};

}  // namespace counterflow::runtime
