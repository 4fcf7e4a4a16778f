#include "compute_streams.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <map>
#include <mutex>
#include <utility>

namespace counterflow::runtime {
namespace {

using c10::impl::VirtualGuardImpl;

/// The streams beside one that a thread computes on: always the same, so that memory which steps leave there
/// is found again.
std::vector<c10::Stream> streams_beside(const c10::Stream& compute, int number) {
  static std::mutex mutex;
  static std::map<std::pair<c10::DeviceIndex, c10::StreamId>, std::vector<c10::Stream>> beside;
  const std::lock_guard lock(mutex);
  std::vector<c10::Stream>& known = beside[{compute.device_index(), compute.id()}];
  const VirtualGuardImpl guard(compute.device_type());
  while (static_cast<int>(known.size()) < number)
    known.push_back(guard.getStreamFromGlobalPool(compute.device(), /*isHighPriority=*/false));
  return {known.begin(), known.begin() + number};
}

}  // namespace

ComputeStreams::ComputeStreams(c10::Device device, int number)
    : device_(device), number_(device.is_cpu() ? 1 : number) {
  // A parameter's gradient is added up on the stream of its first forward, wherever the others run: so it is
  // meant.
  if (active()) at::globalContext().setWarnOnAccumulateGradStreamMismatch(false);
}

void ComputeStreams::begin() {
  if (!active()) return;
  const VirtualGuardImpl guard(device_.type());
  const c10::Stream first = guard.getStream(device_);
  streams_ = {first};
  const Mark start = mark();
  for (const c10::Stream& stream : streams_beside(first, number_ - 1)) {
    start->block(stream);
    streams_.push_back(stream);
  }
}

void ComputeStreams::end() {
  if (!active()) return;
  for (int stream = 1; stream < number_; ++stream) {
    c10::Event done(device_.type());
    done.record(streams_[stream]);
    done.block(streams_[0]);
  }
}

ComputeStreams::On::On(const ComputeStreams& streams, int stream) {
  if (streams.active())
    before_ = VirtualGuardImpl(streams.device_.type()).exchangeStream(streams.streams_[stream]);
}

ComputeStreams::On::~On() {
  if (before_) VirtualGuardImpl(before_->device_type()).exchangeStream(*before_);
}

ComputeStreams::Mark ComputeStreams::mark() const {
  if (!active()) return {};
  auto event = std::make_shared<c10::Event>(device_.type());
  event->record(VirtualGuardImpl(device_.type()).getStream(device_));
  return event;
}

void ComputeStreams::take(const Mark& mark, const Tensors& tensors) const {
  if (!active() || !mark) return;
  const c10::Stream current = VirtualGuardImpl(device_.type()).getStream(device_);
  mark->block(current);
  for (const at::Tensor& tensor : tensors)
    if (tensor.defined() && tensor.device() == device_) tensor.record_stream(current);
}

}  // namespace counterflow::runtime
