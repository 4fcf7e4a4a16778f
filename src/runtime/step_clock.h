// When things happen in a step, on the host or on a device that works behind the host's back.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace counterflow::runtime {

/// On the CPU the host's clock. On another device an event on the calling thread's current stream: it says
/// when the device came to that place, and costs it next to nothing.
class StepClock {
 public:
  /// Forgets all readings. Waits until the device is idle: host and device agree on the time there.
  void start(c10::Device device);

  /// A reading, for ns().
  std::int64_t read();

  /// Of a reading, in nanoseconds of the host's steady clock. Waits until the device has come to it.
  std::int64_t ns(std::int64_t reading) const;

 private:
  static std::int64_t now();
  void mark();

  std::optional<c10::Device> device_;  ///< none: the host
  std::int64_t start_ = 0;             ///< of the host's clock, at the first event
  std::vector<c10::Event> events_;
};

}  // namespace counterflow::runtime
