#include "world.h"

#include <algorithm>
#include <stdexcept>

namespace counterflow::fake_nccl {

World::World(int num_devices, std::uint32_t seed)
    : devices_(num_devices), random_(seed), contenders_(1 + static_cast<int>(seed % 4)) {
  for (DeviceState& device : devices_) device.haste = static_cast<int>(random_() % 1000);
}

Communicator World::create_communicator(std::vector<int> devices) {
  communicators_.push_back({std::move(devices), {}, {}});
  return Communicator(static_cast<int>(communicators_.size()) - 1);
}

Stream World::create_stream(int device) {
  streams_.push_back({device, {}});
  return Stream(static_cast<int>(streams_.size()) - 1);
}

Event World::create_event() {
  Kernel kernel;
  kernel.held_back_by = 1;  // until it is recorded
  kernels_.push_back(std::move(kernel));
  return Event(static_cast<int>(kernels_.size()) - 1);
}

void World::record(Event event, Stream stream) {
  Kernel& kernel = kernels_[index(event)];
  --kernel.held_back_by;
  for (const int before : streams_[index(stream)].pending) {
    ++kernel.held_back_by;
    kernels_[before].next.push_back(index(event));
  }
}

void World::wait(Stream stream, Event event) {
  streams_[index(stream)].pending.push_back(index(event));
}

void World::launch(Stream stream, std::function<void()> body) {
  Kernel kernel;
  kernel.device = streams_[index(stream)].device;
  kernel.body = std::move(body);
  add_kernel(std::move(kernel), {stream});
}

void World::group_start(int device) {
  if (devices_[device].in_group) throw std::logic_error("a group inside a group");
  devices_[device].in_group = true;
}

void World::group_end(int device) {
  if (!devices_[device].in_group) throw std::logic_error("the end of a group that was not started");
  devices_[device].in_group = false;
  std::vector<Operation> group;
  group.swap(devices_[device].group);
  if (!group.empty()) launch_group(device, std::move(group));
}

void World::send(Communicator communicator, int peer, const Buffer& data, Stream stream, std::string label) {
  Operation operation{Type::kSend, communicator, peer};
  operation.source = &data;
  operation.stream = stream;
  operation.label = std::move(label);
  add_transfer(std::move(operation));
}

void World::receive(Communicator communicator, int peer, Buffer& data, Stream stream, std::string label) {
  Operation operation{Type::kReceive, communicator, peer};
  operation.target = &data;
  operation.stream = stream;
  operation.label = std::move(label);
  add_transfer(std::move(operation));
}

void World::all_reduce(Communicator communicator, Buffer& data, Stream stream, std::string label) {
  Operation operation{Type::kAllReduce, communicator, -1};
  operation.target = &data;
  operation.stream = stream;
  operation.label = std::move(label);
  add_transfer(std::move(operation));
}

void World::add_transfer(Operation operation) {
  const int device = streams_[index(operation.stream)].device;
  const std::vector<int>& members = communicators_[index(operation.communicator)].devices;
  const auto is_member = [&](int d) { return std::find(members.begin(), members.end(), d) != members.end(); };
  if (!is_member(device) || (operation.type != Type::kAllReduce && !is_member(operation.peer)))
    throw std::logic_error(operation.label + ": a device outside the communicator");
  if (devices_[device].in_group) {
    devices_[device].group.push_back(std::move(operation));
  } else {
    std::vector<Operation> alone;
    alone.push_back(std::move(operation));
    launch_group(device, std::move(alone));
  }
}

World::Shape World::shape_of(int device, const Operation& operation,
                             const std::vector<Operation>& group) const {
  int sends = 0;
  int others = 0;
  for (const Operation& other : group) {
    if (other.communicator != operation.communicator || other.peer != operation.peer) continue;
    ++(other.type == Type::kSend ? sends : others);
  }
  // Seen from the lower of the two devices, so that both ends of a transfer come to the same.
  return operation.type == Type::kAllReduce || device < operation.peer ? Shape{sends, others}
                                                                       : Shape{others, sends};
}

void World::launch_group(int device, std::vector<Operation> operations) {
  Kernel kernel;
  kernel.device = device;
  kernel.unmet = static_cast<int>(operations.size());
  std::vector<Stream> streams;
  for (Operation& operation : operations) {
    operation.shape = shape_of(device, operation, operations);
    streams.push_back(operation.stream);
  }
  kernel.operations = std::move(operations);
  add_kernel(std::move(kernel), streams);
}

void World::add_kernel(Kernel kernel, const std::vector<Stream>& streams) {
  const int id = static_cast<int>(kernels_.size());
  std::vector<int> before;
  for (const Stream stream : streams) {
    std::vector<int>& pending = streams_[index(stream)].pending;
    before.insert(before.end(), pending.begin(), pending.end());
    pending = {id};
  }
  std::sort(before.begin(), before.end());
  before.erase(std::unique(before.begin(), before.end()), before.end());
  std::erase(before, id);  // two operations of a group on one stream
  kernel.held_back_by = static_cast<int>(before.size());
  for (const int other : before) kernels_[other].next.push_back(id);
  kernels_.push_back(std::move(kernel));
}

Outcome World::run() {
  for (int id = 0; id < static_cast<int>(kernels_.size()); ++id) {
    if (kernels_[id].held_back_by == 0 && !kernels_[id].ended) release(id);
  }
  while (!possible_.empty()) {
    const Step step = pick();
    if (step.ends) {
      end(step.kernel);
    } else {
      start(step.kernel);
    }
  }
  return outcome();
}

World::Step World::pick() {
  std::size_t best = random_() % possible_.size();
  for (int i = 1; i < contenders_; ++i) {
    const std::size_t other = random_() % possible_.size();
    const auto haste = [&](std::size_t at) { return devices_[kernels_[possible_[at].kernel].device].haste; };
    if (haste(other) > haste(best)) best = other;
  }
  std::swap(possible_[best], possible_.back());
  const Step step = possible_.back();
  possible_.pop_back();
  return step;
}

void World::start(int id) {
  Kernel& kernel = kernels_[id];
  if (kernel.body) {
    kernel.started = true;
    kernel.body();
    end(id);
    return;
  }
  DeviceState& device = devices_[kernel.device];
  if (device.resident == device.places) {
    device.without_place.push_back(id);
    return;
  }
  ++device.resident;
  kernel.started = true;
  for (int i = 0; i < static_cast<int>(kernel.operations.size()); ++i) {
    const Operation& operation = kernel.operations[i];
    CommunicatorState& communicator = communicators_[index(operation.communicator)];
    if (operation.type == Type::kAllReduce) {
      communicator.sums[kernel.device].push_back({id, i});
    } else if (operation.type == Type::kSend) {
      communicator.lanes[{kernel.device, operation.peer}].sends.push_back({id, i});
    } else {
      communicator.lanes[{operation.peer, kernel.device}].receives.push_back({id, i});
    }
  }
  for (const Operation& operation : kernel.operations) meet(operation.communicator);
}

void World::end(int id) {
  Kernel& kernel = kernels_[id];
  kernel.ended = true;
  if (!kernel.operations.empty()) {
    DeviceState& device = devices_[kernel.device];
    --device.resident;
    for (const int other : device.without_place) possible_.push_back({other, false});
    device.without_place.clear();
  }
  for (const int next : kernel.next) {
    if (--kernels_[next].held_back_by == 0) release(next);
  }
}

// An event passes at once; a kernel may start, some time.
void World::release(int id) {
  const Kernel& kernel = kernels_[id];
  if (kernel.body || !kernel.operations.empty()) {
    possible_.push_back({id, false});
  } else {
    end(id);
  }
}

void World::meet(Communicator which) {
  CommunicatorState& communicator = communicators_[index(which)];
  for (auto& [pair, lane] : communicator.lanes) meet_lane(lane);
  meet_sums(communicator);
}

void World::meet_lane(Lane& lane) {
  while (!lane.sends.empty() && !lane.receives.empty()) {
    const Reference from = lane.sends.front();
    const Reference to = lane.receives.front();
    if (operation(from).shape != operation(to).shape) return;  // and never will meet
    if (operation(from).source->size() != operation(to).target->size()) {
      errors_.push_back(operation(from).label + " met " + operation(to).label + " of another size");
    } else {
      *operation(to).target = *operation(from).source;
    }
    lane.sends.pop_front();
    lane.receives.pop_front();
    mark_met(from);
    mark_met(to);
  }
}

void World::meet_sums(CommunicatorState& communicator) {
  while (true) {
    for (const int device : communicator.devices) {
      if (communicator.sums[device].empty()) return;
    }
    const Operation& first = operation(communicator.sums[communicator.devices[0]].front());
    Buffer sum(first.target->size(), 0);
    for (const int device : communicator.devices) {
      const Operation& other = operation(communicator.sums[device].front());
      if (other.shape != first.shape) return;
      if (other.target->size() != sum.size()) {
        errors_.push_back(first.label + " met " + other.label + " of another size");
        return;
      }
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += (*other.target)[i];
    }
    for (const int device : communicator.devices) {
      const Reference at = communicator.sums[device].front();
      communicator.sums[device].pop_front();
      *operation(at).target = sum;
      mark_met(at);
    }
  }
}

void World::mark_met(const Reference& at) {
  operation(at).met = true;
  if (--kernels_[at.first].unmet == 0) possible_.push_back({at.first, true});
}

Outcome World::outcome() const {
  Outcome result;
  result.finished = true;
  result.errors = errors_;
  for (const Kernel& kernel : kernels_) {
    if (kernel.ended) continue;
    result.finished = false;
    const std::string where = "device " + std::to_string(kernel.device) + ": ";
    for (const Operation& operation : kernel.operations) {
      if (kernel.started && !operation.met)
        result.stuck.push_back(where + operation.label + " waits for its peer");
    }
  }
  for (const DeviceState& device : devices_) {
    for (const int id : device.without_place) {
      result.stuck.push_back("device " + std::to_string(kernels_[id].device) + ": " +
                             kernels_[id].operations[0].label + " waits for a place");
    }
  }
  return result;
}

}  // namespace counterflow::fake_nccl
