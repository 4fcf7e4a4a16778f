#include "lanes.h"

#include <ATen/core/Tensor.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <map>
#include <mutex>

namespace counterflow::runtime {
namespace {

using c10::impl::VirtualGuardImpl;

/// A stream beside each that a thread computes on: always the same, so that memory which pieces leave there
/// is found again.
c10::Stream stream_beside(const c10::Stream& compute) {
  static std::mutex mutex;
  static std::map<std::pair<c10::DeviceIndex, c10::StreamId>, c10::Stream> beside;
  const std::lock_guard lock(mutex);
  const std::pair key(compute.device_index(), compute.id());
  const auto known = beside.find(key);
  if (known != beside.end()) return known->second;
  const VirtualGuardImpl guard(compute.device_type());
  return beside.emplace(key, guard.getStreamFromGlobalPool(compute.device(), /*isHighPriority=*/true))
      .first->second;
}

std::shared_ptr<c10::Event> mark(const c10::Stream& stream) {
  auto event = std::make_shared<c10::Event>(stream.device_type());
  event->record(stream);
  return event;
}

/// The calling thread's stream, for a while.
class OnStream {
 public:
  explicit OnStream(const c10::Stream& stream)
      : guard_(stream.device_type()), before_(guard_.exchangeStream(stream)) {}
  ~OnStream() { guard_.exchangeStream(before_); }
  OnStream(const OnStream&) = delete;
  OnStream& operator=(const OnStream&) = delete;

 private:
  VirtualGuardImpl guard_;
  c10::Stream before_;
};

/// Their memory is not given to anyone else before the stream, too, is done with it.
void keep_for(const Tensors& tensors, const c10::Stream& stream) {
  for (const at::Tensor& tensor : tensors)
    if (tensor.defined() && tensor.device() == stream.device()) tensor.record_stream(stream);
}

}  // namespace

Lanes::Lanes(const Tensors& tensors) {
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined() || tensor.is_cpu()) continue;
    const VirtualGuardImpl guard(tensor.device().type());
    compute_ = guard.getStream(tensor.device());
    communication_ = stream_beside(*compute_);
    return;
  }
}

Progress Lanes::begin() const {
  if (!compute_) return {};
  return {Lane::kCompute, mark(*compute_)};
}

Progress Lanes::run(Lane lane, const Progress& after, const Tensors& inputs,
                    const std::function<void()>& body) {
  if (!compute_) {
    body();
    return {};
  }
  const c10::Stream& stream = lane == Lane::kCompute ? *compute_ : *communication_;
  if (after.lane != lane && after.done) {
    after.done->block(stream);
    keep_for(inputs, stream);
  }
  communicates_ |= lane == Lane::kCommunication;
  const OnStream on_stream(stream);
  body();
  return {lane, mark(stream)};
}

void Lanes::join(const Progress& last, const Tensors& outputs) {
  if (!communicates_) return;  // in a recorded step nothing may wait for a stream that has no part in it
  mark(*communication_)->block(*compute_);
  if (last.lane == Lane::kCommunication) keep_for(outputs, *compute_);
}

}  // namespace counterflow::runtime
