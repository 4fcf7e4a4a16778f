#include "device_order.h"

#include <ATen/core/Tensor.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

namespace counterflow::runtime {
namespace {

std::vector<at::Device> devices_of(const Tensors& tensors) {
  std::vector<at::Device> all;
  for (const at::Tensor& tensor : tensors)
    if (tensor.defined() && !tensor.is_cpu() &&
        std::find(all.begin(), all.end(), tensor.device()) == all.end())
      all.push_back(tensor.device());
  return all;
}

}  // namespace

DeviceEvents devices_now(const Tensors& tensors) {
  DeviceEvents events;
  for (const at::Device device : devices_of(tensors)) {
    const c10::impl::VirtualGuardImpl impl(device.type());
    events.push_back(std::make_shared<c10::Event>(device.type()));
    events.back()->record(impl.getStream(device));
  }
  return events;
}

void take_over(Tensors& tensors, const DeviceEvents& ready) {
  for (const std::shared_ptr<c10::Event>& event : ready) {
    const c10::impl::VirtualGuardImpl impl(event->device_type());
    // A copy between devices runs on the stream of the device that it comes from.
    event->block(impl.getStream({event->device_type(), event->device_index()}));
    event->block(impl.getStream(impl.getDevice()));
  }
  for (at::Tensor& tensor : tensors) {
    if (!tensor.defined() || tensor.is_cpu()) continue;
    const c10::impl::VirtualGuardImpl impl(tensor.device().type());
    tensor.record_stream(impl.getStream(tensor.device()));
    if (tensor.device() != impl.getDevice()) tensor = tensor.to(impl.getDevice());
  }
}

void finish_work(const Tensors& tensors) {
  for (const at::Device device : devices_of(tensors)) {
    const c10::impl::VirtualGuardImpl impl(device.type());
    impl.synchronizeStream(impl.getStream(device));
  }
}

}  // namespace counterflow::runtime
