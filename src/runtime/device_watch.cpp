#include "device_watch.h"

#include <algorithm>
#include <utility>

namespace counterflow::runtime {

void DeviceWatch::add(CudaEvent done, const Pass& producer, int from) {
  add({std::move(done), producer, from});
}

void DeviceWatch::add(CudaEvent done, std::function<std::string()> where) {
  add({std::move(done), {}, -1, std::move(where)});
}

void DeviceWatch::add(Watched one) {
  const std::lock_guard lock(mutex_);
  if (watched_.empty()) progress_ = Clock::now();
  watched_.push_back(std::move(one));
  if (watched_.size() > 64) drop_done();  // a host that is far ahead: next() clears the rest
}

std::optional<DeviceWatch::Next> DeviceWatch::next() {
  const std::lock_guard lock(mutex_);
  drop_done();
  if (watched_.empty()) return std::nullopt;
  const Watched& first = watched_.front();
  std::string what =
      first.where ? first.where() : to_string(first.producer) + " from rank " + std::to_string(first.from);
  if (first.where && what != reached_) {
    reached_ = what;
    progress_ = Clock::now();
  }
  return Next{std::move(what), first.from, Clock::now() - progress_};
}

std::size_t DeviceWatch::num_replays() {
  const std::lock_guard lock(mutex_);
  drop_done();
  return std::count_if(watched_.begin(), watched_.end(), [](const Watched& one) { return one.from < 0; });
}

void DeviceWatch::drop_done() {
  while (!watched_.empty() && watched_.front().done.is_done()) {
    watched_.pop_front();
    progress_ = Clock::now();
  }
}

}  // namespace counterflow::runtime
