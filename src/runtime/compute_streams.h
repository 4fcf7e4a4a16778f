// Several streams of a GPU for one rank's passes, so that small kernels of different micro-batches run side
// by side: a forward beside a backward first of all (OVERLAP_F_B).
//
// All that is done for a micro-batch in a stage stays on one stream: autograd runs a backward where its
// forward ran. What goes from one stream to another is ordered by events, and so are the passes that add to
// parameters' gradients, which therefore come to the same bits as on one stream.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <memory>
#include <optional>
#include <vector>

#include "counterflow/runtime/tensors.h"

namespace counterflow::runtime {

/// The streams of one step after the other; belongs to one thread. Without a GPU it does nothing.
class ComputeStreams {
 public:
  /// A point that work has come to on a stream.
  using Mark = std::shared_ptr<c10::Event>;

  /// `number` streams, the first of which is the current one of `device` at begin(). One does nothing.
  ComputeStreams(c10::Device device, int number);

  bool active() const { return number_ > 1; }

  /// All streams go on from where the current one is.
  void begin();

  /// The current stream goes on when all are done.
  void end();

  /// While this lives, `stream` is the current one.
  class On {
   public:
    On(const ComputeStreams& streams, int stream);
    ~On();
    On(const On&) = delete;
    On& operator=(const On&) = delete;

   private:
    std::optional<c10::Stream> before_;
  };

  /// Where the current stream is now.
  Mark mark() const;

  /// The current stream waits for a mark on another one and, from now on, uses what was made there.
  void take(const Mark& mark, const Tensors& tensors) const;

 private:
  c10::Device device_;
  int number_;
  std::vector<c10::Stream> streams_;
};

}  // namespace counterflow::runtime
