// CUDA graphs of the fake device: what streams are asked for while a thread captures them is not done but
// kept, and done again at each replay.
//
// The rules are the real ones (CUDA programming guide, "Creating a Graph Using Stream Capture"): a stream
// joins a capture by waiting for an event of it, and has to be joined back to the first one; no dependency
// crosses a capture's border; to synchronize or to query what is captured ends the capture with an error.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fake_device.h"

namespace counterflow::fake {

class Graph {
 public:
  /// Does it all once, on a stream: a node when those that it comes after are done.
  static void launch(const std::shared_ptr<const Graph>& graph, cudaStream_t stream);

  /// Whether a replay is not done yet.
  bool is_under_way() const { return *under_way_ > 0; }

  int add(Work work, std::set<int> after, cudaStream_t stream);
  std::size_t size() const { return nodes_.size(); }

  /// Whether `node` is done once all of `points` are.
  bool is_before(int node, const std::set<int>& points) const;

  /// Each stream that was captured is a branch, which has a queue as a stream does.
  void take_queues();

  /// Something stays while the graph does.
  void keep(std::shared_ptr<const void> something) { kept_.push_back(std::move(something)); }

  /// It cannot be replayed any more.
  void spoil(std::string why) { spoilt_ = std::move(why); }

 private:
  struct Node {
    Work work;
    std::set<int> after;
    cudaStream_t stream;  ///< that it was captured on
  };
  class Run;

  std::vector<Node> nodes_;
  std::vector<std::shared_ptr<Queue>> queues_;  ///< by node
  std::vector<std::shared_ptr<const void>> kept_;
  std::string spoilt_;
  std::shared_ptr<std::atomic<int>> under_way_ = std::make_shared<std::atomic<int>>(0);
};

/// From begin_capture() to end_capture(). Belongs to the thread that began it.
class Capture : public std::enable_shared_from_this<Capture> {
 public:
  explicit Capture(cudaStream_t origin) : origin_(origin) {}

  /// Null once it has ended: events that were recorded in it may stay for longer.
  const std::shared_ptr<Graph>& graph() const { return graph_; }
  cudaStream_t origin() const { return origin_; }

  /// What has ended it early; all that its streams are asked for afterwards fails.
  cudaError_t error() const { return error_; }

  /// Ends it early, unless it has ended already. Returns the error.
  cudaError_t fail(cudaError_t error);

  cudaError_t add(cudaStream_t stream, Work work, const std::vector<const void*>& memory);
  void join(cudaStream_t stream);

  /// Frees its streams. The graph, if nothing went wrong.
  cudaError_t end(std::shared_ptr<Graph>& graph);

 private:
  const cudaStream_t origin_;
  std::shared_ptr<Graph> graph_ = std::make_shared<Graph>();
  std::vector<cudaStream_t> streams_;
  cudaError_t error_ = cudaSuccess;
  bool ended_ = false;
};

cudaError_t begin_capture(cudaStream_t stream);
cudaError_t end_capture(cudaStream_t stream, std::shared_ptr<Graph>& graph);

std::shared_ptr<Capture> capture_of_this_thread();

/// Notes it where this thread captures and asks a stream for something that has no part in that: it would be
/// done once, and in no replay.
void check_takes_part(cudaStream_t stream);

/// cudaStreamWaitEvent where one of the two is in a capture, or was.
cudaError_t wait_in_capture(CUstream_st& stream, const CUevent_st& event);

}  // namespace counterflow::fake
