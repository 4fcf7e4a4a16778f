#include "step_clock.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>

namespace counterflow::runtime {

void StepClock::start(c10::Device device) {
  events_.clear();
  device_.reset();
  if (device.is_cpu()) return;
  device_ = device;
  const c10::impl::VirtualGuardImpl guard(device.type());
  guard.synchronizeDevice(device.index());
  mark();
  events_.front().synchronize();
  start_ = now();
}

std::int64_t StepClock::read() {
  if (!device_) return now();
  mark();
  return static_cast<std::int64_t>(events_.size()) - 1;
}

std::int64_t StepClock::ns(std::int64_t reading) const {
  if (!device_) return reading;
  constexpr double kNsPerMs = 1e6;
  const c10::Event& event = events_.at(static_cast<std::size_t>(reading));
  event.synchronize();
  return start_ + static_cast<std::int64_t>(events_.front().elapsedTime(event) * kNsPerMs);
}

std::int64_t StepClock::now() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

void StepClock::mark() {
  const c10::impl::VirtualGuardImpl guard(device_->type());
  events_.emplace_back(device_->type(), c10::EventFlag::BACKEND_DEFAULT).record(guard.getStream(*device_));
}

}  // namespace counterflow::runtime
