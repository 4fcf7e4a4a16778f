// What pieces run on: on a device two streams side by side, one for each lane; on the CPU one after another.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <functional>
#include <memory>
#include <optional>

#include "counterflow/runtime/pieces.h"

namespace counterflow::runtime {

/// One pass through pieces has come so far: what it left is there once the event is done.
struct Progress {
  Lane lane = Lane::kCompute;
  std::shared_ptr<c10::Event> done;  ///< null where the calling thread's own order is enough
};

/// The compute lane is the calling thread's current stream, the communication lane a stream beside it.
/// Between its making and join() the lanes run side by side, each in the order of run(), and a piece that
/// goes on with what the other lane left waits for just that. Nothing here waits for the device.
class Lanes {
 public:
  /// `tensors` are what is to be worked on: where they are, the lanes are.
  explicit Lanes(const Tensors& tensors);

  /// From here a pass can start.
  Progress begin() const;

  /// Runs `body` on a lane, on what the pass's last piece left. Tensors of that stay valid for both lanes.
  Progress run(Lane lane, const Progress& after, const Tensors& inputs, const std::function<void()>& body);

  /// The calling thread's stream goes on when both lanes have come to here, with what a pass left.
  void join(const Progress& last, const Tensors& outputs);

 private:
  std::optional<c10::Stream> compute_, communication_;  ///< none: on the CPU
  bool communicates_ = false;                           ///< whether a piece ran beside the compute lane
};

}  // namespace counterflow::runtime
