// Records a whole step of a rank once and does it again without the host.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace counterflow::runtime {

/// One step of one rank. make_cuda_recorder() (cuda_recorder.h) makes one of a CUDA graph. Belongs to one
/// pipeline and one thread.
class StepRecorder {
 public:
  virtual ~StepRecorder() = default;

  /// Runs `body` where it can be recorded later. What the calling thread has asked of the device before is
  /// done first, and what it asks for afterwards comes after.
  virtual void run(const std::function<void()>& body) = 0;

  /// Inside run(): calls `body` without doing what it asks of the device, and keeps that instead.
  virtual void record(const std::function<void()>& body) = 0;

  /// Inside record(): the device will say when it has come to here. Where nothing is being recorded, nothing.
  virtual void mark(int action) { static_cast<void>(action); }

  /// What mark() was last told of that the device has come to in a replay, or -1. Any thread.
  virtual int progress() const { return -1; }

  /// What the random scopes (random.h) started from that drew on the device while recording, in the order in
  /// which they first did.
  virtual const std::vector<std::uint64_t>& seeds() const = 0;

  /// Inside run(): does what was recorded, its random scopes starting from as many other seeds.
  virtual void replay(const std::vector<std::uint64_t>& seeds) = 0;

  /// Gives back what was recorded, at once or when the last replay is done: the pipeline is about to go, and
  /// then its transport, whose communicators the recording uses.
  virtual void forget() {}
};

}  // namespace counterflow::runtime
