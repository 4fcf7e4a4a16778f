// A GPU without a GPU: a thread that works off streams, behind the functions of CUDA's runtime that the
// transports between GPUs and the recorder of steps call. One device a process. Its memory is the host's;
// what others reach into lies where they see it (fake_peers.h).
//
// Kernels run on the host when they are asked for, after all that their stream was asked for before
// (fake_torch.cpp): a host that needs what a transfer brings is held up in the operator that reads it, as one
// that reads a loss is by a real device. Those of a graph (fake_graph.h) run when the device comes to them.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <vector>

namespace counterflow::fake {

/// What a stream is asked for: called again and again, until it says that it is done. One that is part of a
/// graph is copied for each replay.
using Work = std::function<bool()>;

class Capture;
class Queue;

/// Where a stream was in a capture.
struct Point {
  std::shared_ptr<Capture> capture;  ///< null outside of one
  std::set<int> after;               ///< the nodes of its graph that it comes behind
};

/// Asks a stream for work, or adds it to the graph where the stream is being captured. `memory` is what the
/// work reads and writes: the addresses of any bytes of it.
cudaError_t enqueue(cudaStream_t stream, Work work, const std::vector<const void*>& memory = {});

/// Asks a stream for work that no graph holds.
void enqueue_now(cudaStream_t stream, Work work);

/// The same where parts of it have places in queues (fake_queues.h).
void enqueue_parts(cudaStream_t stream, Work whole, const std::vector<std::shared_ptr<Queue>>& queues,
                   const std::function<void(std::size_t part)>& put);

/// The streams that there are get queues.
void give_queues();

/// The default stream.
cudaStream_t compute_stream();

/// A new one. Streams stay as long as the process does.
cudaStream_t make_stream();

/// Wait until a stream, or every stream, has nothing to do.
void synchronize(cudaStream_t stream);
void synchronize_device();

/// Which devices have something to do, this one's by `own`, is from now on seen in memory that processes
/// share.
void share_devices(std::atomic<bool>* busy, int own, int number);

/// Waits until none of them has.
void synchronize_all_devices();

/// Calls a condition again and again until it holds.
void poll(const std::function<bool()>& condition);

}  // namespace counterflow::fake

struct CUstream_st {
  std::shared_ptr<counterflow::fake::Queue> queue;  ///< null: one of its own
  std::deque<counterflow::fake::Work> work{};
  counterflow::fake::Point point{};
};

struct CUevent_st {
  std::shared_ptr<std::atomic<bool>> reached = std::make_shared<std::atomic<bool>>(true);
  bool recorded = false;
  counterflow::fake::Point point;  ///< of the stream, when it was recorded last
};
