#include "fake_graph.h"

#include <algorithm>
#include <map>
#include <utility>

#include "fake_memory.h"
#include "fake_queues.h"
#include "misuse.h"

namespace counterflow::fake {
namespace {

thread_local std::shared_ptr<Capture> t_capture;

}  // namespace

/// One replay.
class Graph::Run {
 public:
  explicit Run(std::shared_ptr<const Graph> graph) : graph_(std::move(graph)), done_(graph_->size(), false) {}

  /// The next node is put where the device finds it.
  void put(std::size_t node) { work_.push_back(in_turn(graph_->queues_[node], graph_->nodes_[node].work)); }

  /// Nodes get ahead side by side, the last that may first: where a dependency is missing, what comes out is
  /// wrong.
  bool advance() {
    bool all = work_.size() == done_.size();
    for (std::size_t i = work_.size(); i-- > 0;) {
      if (!done_[i] && is_ready(i)) done_[i] = work_[i]();
      all &= done_[i];
    }
    return all;
  }

 private:
  bool is_ready(std::size_t node) const {
    const std::set<int>& after = graph_->nodes_[node].after;
    return std::all_of(after.begin(), after.end(), [this](int before) { return done_[before]; });
  }

  const std::shared_ptr<const Graph> graph_;
  std::vector<Work> work_;
  std::vector<bool> done_;
};

void Graph::launch(const std::shared_ptr<const Graph>& graph, cudaStream_t stream) {
  if (!graph->spoilt_.empty()) note_misuse("a graph was replayed " + graph->spoilt_);
  check_takes_part(stream);
  const auto run = std::make_shared<Run>(graph);
  ++*graph->under_way_;
  const auto whole = [run, under_way = graph->under_way_] {
    if (!run->advance()) return false;
    --*under_way;
    return true;
  };
  enqueue_parts(stream, whole, graph->queues_, [run](std::size_t node) { run->put(node); });
}

void Graph::take_queues() {
  std::map<cudaStream_t, std::shared_ptr<Queue>> branches;
  for (const Node& node : nodes_) {
    const auto [branch, is_new] = branches.try_emplace(node.stream);
    if (is_new) branch->second = next_queue();
    queues_.push_back(branch->second);
  }
}

int Graph::add(Work work, std::set<int> after, cudaStream_t stream) {
  nodes_.push_back({std::move(work), std::move(after), stream});
  return static_cast<int>(nodes_.size()) - 1;
}

bool Graph::is_before(int node, const std::set<int>& points) const {
  std::set<int> left = points;
  while (!left.empty()) {
    const int last = *left.rbegin();
    if (last <= node) return last == node;  // a node comes after earlier ones only
    left.erase(last);
    left.insert(nodes_[last].after.begin(), nodes_[last].after.end());
  }
  return false;
}

cudaError_t Capture::fail(cudaError_t error) {
  if (!ended_ && error_ == cudaSuccess) error_ = cudaErrorStreamCaptureInvalidated;
  return error;
}

cudaError_t Capture::add(cudaStream_t stream, Work work, const std::vector<const void*>& memory) {
  if (error_ != cudaSuccess) return error_;
  Point& point = stream->point;
  const int node = graph_->add(std::move(work), std::move(point.after), stream);
  point.after = {node};
  note_use(graph_, node, memory);
  return cudaSuccess;
}

void Capture::join(cudaStream_t stream) {
  stream->point.capture = shared_from_this();
  streams_.push_back(stream);
}

cudaError_t Capture::end(std::shared_ptr<Graph>& graph) {
  const std::set<int> last = origin_->point.after;
  for (const cudaStream_t stream : streams_) stream->point = {};
  ended_ = true;
  const std::shared_ptr<Graph> whole = std::move(graph_);
  if (error_ != cudaSuccess) return error_;
  for (int node = 0; node < static_cast<int>(whole->size()); ++node)
    if (!whole->is_before(node, last)) return error_ = cudaErrorStreamCaptureUnjoined;
  whole->take_queues();
  graph = whole;
  return cudaSuccess;
}

cudaError_t begin_capture(cudaStream_t stream) {
  if (stream == compute_stream() || stream->point.capture || t_capture)
    return cudaErrorStreamCaptureUnsupported;
  t_capture = std::make_shared<Capture>(stream);
  t_capture->join(stream);
  return cudaSuccess;
}

cudaError_t end_capture(cudaStream_t stream, std::shared_ptr<Graph>& graph) {
  const std::shared_ptr<Capture> capture = std::exchange(t_capture, nullptr);
  if (!capture || capture->origin() != stream) return cudaErrorIllegalState;
  return capture->end(graph);
}

std::shared_ptr<Capture> capture_of_this_thread() {
  return t_capture;
}

void check_takes_part(cudaStream_t stream) {
  if (t_capture && stream->point.capture != t_capture)
    note_misuse("a stream was asked for something that has no part in the capture of this thread");
}

cudaError_t wait_in_capture(CUstream_st& stream, const CUevent_st& event) {
  const std::shared_ptr<Capture> own = stream.point.capture;
  const std::shared_ptr<Capture>& other = event.point.capture;
  if (!other) return own->fail(cudaErrorStreamCaptureIsolation);
  if (other != capture_of_this_thread())  // it has ended
    return own ? own->fail(cudaErrorStreamCaptureMerge) : cudaErrorCapturedEvent;
  if (other->error() != cudaSuccess) return other->error();
  if (!own) other->join(&stream);
  if (own && own != other) return own->fail(other->fail(cudaErrorStreamCaptureMerge));
  stream.point.after.insert(event.point.after.begin(), event.point.after.end());
  return cudaSuccess;
}

}  // namespace counterflow::fake
