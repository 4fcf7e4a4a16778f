#include "device_watch.h"

#include <utility>

namespace counterflow::runtime {

void DeviceWatch::add(CudaEvent done, const Pass& producer, int from) {
  const std::lock_guard lock(mutex_);
  if (receives_.empty()) progress_ = Clock::now();
  receives_.push_back({std::move(done), producer, from});
  if (receives_.size() > 64) drop_done();  // a host that is far ahead: next() clears the rest
}

std::optional<DeviceWatch::Next> DeviceWatch::next() {
  const std::lock_guard lock(mutex_);
  drop_done();
  if (receives_.empty()) return std::nullopt;
  const Receive& first = receives_.front();
  return Next{to_string(first.producer) + " from rank " + std::to_string(first.from), first.from,
              Clock::now() - progress_};
}

void DeviceWatch::drop_done() {
  while (!receives_.empty() && receives_.front().done.is_done()) {
    receives_.pop_front();
    progress_ = Clock::now();
  }
}

}  // namespace counterflow::runtime
