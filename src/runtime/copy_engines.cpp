#include "counterflow/runtime/copy_engines.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "counterflow/runtime/error.h"
#include "counterflow/runtime/log.h"
#include "cuda_event.h"
#include "device_transport.h"
#include "mapped_memory.h"
#include "stream_values.h"

namespace counterflow::runtime {
namespace {

/// A flag in a GPU's memory. Zero or one.
using Flag = std::uint32_t;

/// Far enough apart that a flag has a sector to itself.
constexpr std::size_t kFlagBytes = 128;

cudaStream_t compute_stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

/// Both ends of a line. The receiver's memory holds slots and, for each, whether it is full; the sender's
/// whether it is free, and a one to copy from.
class CopyLine : public DeviceLine {
 public:
  CopyLine(const StreamValues& values, const CopyEngineOptions& options, bool sends)
      : values_(values),
        slots_(options.slots),
        slot_bytes_(options.slot_bytes),
        sends_(sends),
        memory_((sends ? 0 : slots_ * slot_bytes_) + (slots_ + 1) * kFlagBytes),
        own_flags_(memory_.data() + (sends ? 0 : slots_ * slot_bytes_)) {
    set(one());
    if (sends)
      for (std::size_t slot = 0; slot < slots_; ++slot) set(own_flags_ + slot * kFlagBytes);
  }

  std::string handle() const { return memory_.handle(); }

  void meet(const std::string& handle_of_other) {
    other_.emplace(handle_of_other);
    other_flags_ = other_->data() + (sends_ ? slots_ * slot_bytes_ : 0);
  }

  cudaStream_t stream() const override { return stream_.get(); }

  void send(const Tensors& tensors) override {
    for_each_slot(tensors, [this](std::byte* part, std::size_t bytes, std::size_t slot) {
      take(own_flags_ + slot * kFlagBytes);
      copy(other_->data() + slot * slot_bytes_, part, bytes);
      raise(slot);
    });
  }

  void receive(Tensors& tensors) override {
    for_each_slot(tensors, [this](std::byte* part, std::size_t bytes, std::size_t slot) {
      take(own_flags_ + slot * kFlagBytes);
      copy(part, memory_.data() + slot * slot_bytes_, bytes);
      raise(slot);
    });
  }

  /// Lets whatever waits here go on.
  void let_go(cudaStream_t stream) const {
    for (std::size_t slot = 0; slot < slots_; ++slot)
      values_.write(stream, own_flags_ + slot * kFlagBytes, 1);
  }

 private:
  template <class Each>
  void for_each_slot(const Tensors& tensors, Each each) {
    for (const at::Tensor& tensor : tensors) {
      if (!tensor.defined()) continue;
      auto* const data = static_cast<std::byte*>(tensor.data_ptr());
      for (std::size_t done = 0; done < tensor.nbytes(); done += slot_bytes_) {
        each(data + done, std::min(slot_bytes_, tensor.nbytes() - done), next_);
        next_ = (next_ + 1) % slots_;
      }
    }
  }

  /// The stream waits until a flag of this device is set, and clears it.
  void take(std::byte* flag) const {
    values_.wait_for(stream(), flag, 1);
    values_.write(stream(), flag, 0);
  }

  std::byte* one() const { return own_flags_ + slots_ * kFlagBytes; }

  static void set(std::byte* flag) {
    constexpr Flag kSet = 1;
    check(cudaMemcpy(flag, &kSet, sizeof kSet, cudaMemcpyHostToDevice), "cudaMemcpy");
  }

  void copy(std::byte* to, const std::byte* from, std::size_t bytes) const {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream()), "cudaMemcpyAsync");
  }

  /// A stream's write to a peer's memory does not arrive, a copy does.
  void raise(std::size_t slot) const { copy(other_flags_ + slot * kFlagBytes, one(), sizeof(Flag)); }

  const StreamValues& values_;
  const std::size_t slots_;
  const std::size_t slot_bytes_;
  const bool sends_;
  const SharedMemory memory_;
  std::byte* const own_flags_;
  std::optional<MappedMemory> other_;
  std::byte* other_flags_ = nullptr;
  const LineStream stream_;
  std::size_t next_ = 0;
};

/// Streams that nothing waits on, to let go what waits on others. The device works on a stream behind others
/// that it keeps in the same queue; streams of different priorities are in different ones, so there is one of
/// each that lines do not have. All are made, and used once, before anything waits: that may take the device.
class FreeStreams {
 public:
  FreeStreams() {
    const StreamPriorities priorities;
    for (int priority = priorities.first + 1; priority <= priorities.last; ++priority)
      streams_.emplace_back(priority);
    if (streams_.empty()) streams_.emplace_back();
    for (const LineStream& stream : streams_) {
      CudaEvent used;
      used.record(stream.get());
      check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
    }
  }

  /// Those that are done with what they were asked for before.
  template <class Each>
  void for_each_idle(Each each) const {
    for (const LineStream& stream : streams_)
      if (cudaStreamQuery(stream.get()) == cudaSuccess) each(stream.get());
  }

 private:
  std::deque<LineStream> streams_;
};

/// Lines from each member to each other.
class CopyGroup : public DeviceGroup {
 public:
  struct Peer {
    CopyLine* out = nullptr;  ///< null for this rank itself
    CopyLine* in = nullptr;
  };

  explicit CopyGroup(std::vector<Peer> peers) : peers_(std::move(peers)) {}

  std::function<void()> exchange(std::size_t own, Tensors& parts) override {
    for (std::size_t peer = 0; peer < peers_.size(); ++peer)
      if (peer != own) parts[peer] = at::empty_like(parts[own]);
    std::vector<Work> works;
    for (std::size_t peer = 0; peer < peers_.size(); ++peer) {
      if (peer == own) continue;
      works.push_back({peers_[peer].out, true, {parts[own]}});
      works.push_back({peers_[peer].in, false, {parts[peer]}});
    }
    return [ends = std::make_shared<std::vector<CudaEvent>>(start(works))] { block(*ends); };
  }

  void broadcast(std::size_t own, std::size_t root, at::Tensor& whole) override {
    std::vector<Work> works;
    for (std::size_t peer = 0; peer < peers_.size(); ++peer) {
      if (own == root && peer != own) works.push_back({peers_[peer].out, true, {whole}});
      if (own != root && peer == root) works.push_back({peers_[peer].in, false, {whole}});
    }
    block(start(works));
  }

 private:
  struct Work {
    CopyLine* line;
    bool sends;
    Tensors tensors;
  };

  /// All lines side by side, from what the compute stream has come to.
  static std::vector<CudaEvent> start(std::vector<Work>& works) {
    CudaEvent begin;
    begin.record(compute_stream());
    std::vector<CudaEvent> ends;
    for (Work& work : works) {
      const cudaStream_t stream = work.line->stream();
      begin.block(stream);
      if (work.sends)
        work.line->send(work.tensors);
      else
        work.line->receive(work.tensors);
      ends.emplace_back().record(stream);
    }
    return ends;
  }

  static void block(const std::vector<CudaEvent>& ends) {
    for (const CudaEvent& end : ends) end.block(compute_stream());
  }

  std::vector<Peer> peers_;
};

class CopyFabric : public DeviceFabric {
 public:
  CopyFabric(Meeting& meeting, int rank, const CopyEngineOptions& options)
      : meeting_(meeting), rank_(rank), options_(options) {
    if (options.slots < 1 || options.slot_bytes < 1)
      throw TransportError("the copy engines need at least one slot of at least one byte");
  }

  /// Freeing memory waits for the device, which may still come to waits that nobody but the thread ends.
  ~CopyFabric() override {
    if (releaser_.joinable() && cudaSetDevice(options_.device) == cudaSuccess)
      static_cast<void>(cudaDeviceSynchronize());
    ends_ = true;
    if (releaser_.joinable()) releaser_.join();
  }

  const char* name() const override { return "the copy engines"; }

  DeviceLine& open_line(int from, int to) override { return open("channel", from, to); }

  /// Lines are opened in the same order by all, so that none waits in a circle.
  DeviceGroup& open_group(int number, const std::vector<std::int32_t>& ranks) override {
    const std::string name = "group" + std::to_string(number);
    std::vector<CopyGroup::Peer> peers(ranks.size());
    for (std::size_t from = 0; from < ranks.size(); ++from) {
      for (std::size_t to = 0; to < ranks.size(); ++to) {
        if (from == to) continue;
        if (ranks[from] == rank_) peers[to].out = &open(name, ranks[from], ranks[to]);
        if (ranks[to] == rank_) peers[from].in = &open(name, ranks[from], ranks[to]);
      }
    }
    return groups_.emplace_back(std::move(peers));
  }

  /// A thread sets the flags that this rank's streams wait for, again and again, until they have nothing more
  /// to wait for: what was asked for before stays asked for.
  void abort() noexcept override {
    std::call_once(aborts_, [this] { releaser_ = std::thread([this] { release(); }); });
  }

  /// When all ranks that this one knows have come here, none of them copies any more.
  void close() noexcept override {
    try {
      for (const auto& line : lines_) meeting_.drain(line->stream());
      meeting_.drain(compute_stream());  // what was recorded comes from there
    } catch (const std::exception&) {
      return abort();
    }
    try {
      meeting_.set(closed_key(rank_), "1");
      for (const int peer : peers_) meeting_.fetch(closed_key(peer), std::chrono::seconds(5));
    } catch (const std::exception&) {
      // A rank that has failed reaches into nothing.
    }
  }

 private:
  static std::string closed_key(int rank) { return "counterflow/copy/closed/" + std::to_string(rank); }

  /// The same memory in fewer, larger slots: what groups exchange is larger than messages, and not urgent.
  CopyEngineOptions options_in_group() const {
    constexpr int kFewer = 2;
    CopyEngineOptions options = options_;
    if (options.slots >= 2 * kFewer) {
      options.slots /= kFewer;
      options.slot_bytes *= kFewer;
    }
    return options;
  }

  CopyLine& open(const std::string& name, int from, int to) {
    const bool sends = from == rank_;
    const int peer = sends ? to : from;
    const std::string key =
        "counterflow/copy/" + name + "/" + std::to_string(from) + "-" + std::to_string(to) + "/";
    auto line = std::make_unique<CopyLine>(values_, name == "channel" ? options_ : options_in_group(), sends);
    meeting_.set(key + std::to_string(rank_), line->handle());
    line->meet(meeting_.fetch(key + std::to_string(peer)));
    if (std::find(peers_.begin(), peers_.end(), peer) == peers_.end()) peers_.push_back(peer);
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
    warn_of_queues();
    return *lines_.back();
  }

  /// A stream that waits for a flag holds up those that the device keeps in the same queue, what it waits for
  /// among them.
  void warn_of_queues() const {
    constexpr std::size_t kQueues = 8;
    const char* const connections = std::getenv("CUDA_DEVICE_MAX_CONNECTIONS");
    const std::size_t queues = connections == nullptr ? kQueues : std::strtoul(connections, nullptr, 10);
    if (lines_.size() == queues && queues > 1)
      log(LogLevel::kWarn, rank_,
          "transfers on " + std::to_string(queues) +
              " streams or more, beside those that compute, on a GPU that has " + std::to_string(queues) +
              " queues for them: they may hold one another up for ever. Set CUDA_DEVICE_MAX_CONNECTIONS=32");
  }

  void release() noexcept {
    if (cudaSetDevice(options_.device) != cudaSuccess) return;
    try {
      release_all();
    } catch (const std::exception&) {
      // The device itself has failed, which ends what waits there.
    }
  }

  /// To ask one that is being captured would end the capture.
  static bool is_waiting(cudaStream_t stream) {
    cudaStreamCaptureStatus status{};
    static_cast<void>(cudaStreamIsCapturing(stream, &status));
    return status == cudaStreamCaptureStatusNone && cudaStreamQuery(stream) == cudaErrorNotReady;
  }

  /// For a second at least: a recorded step waits where no line's stream shows it.
  void release_all() {
    constexpr auto kPause = std::chrono::milliseconds(1);
    const auto least = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    for (bool waits = true; waits || !ends_ || std::chrono::steady_clock::now() < least;) {
      waits = false;
      {
        const std::lock_guard lock(mutex_);
        free_streams_.for_each_idle([this](cudaStream_t stream) {
          for (const auto& line : lines_) line->let_go(stream);
        });
        for (const auto& line : lines_) waits |= is_waiting(line->stream());
      }
      std::this_thread::sleep_for(kPause);
    }
  }

  Meeting& meeting_;
  const int rank_;
  const CopyEngineOptions options_;
  const StreamValues values_;
  const FreeStreams free_streams_;
  std::mutex mutex_;  ///< of adding a line, and of letting them go
  std::vector<std::unique_ptr<CopyLine>> lines_;
  std::deque<CopyGroup> groups_;
  std::vector<int> peers_;
  std::once_flag aborts_;
  std::atomic<bool> ends_ = false;
  std::thread releaser_;
};

}  // namespace

std::unique_ptr<Transport> make_copy_engine_transport(
    const std::function<c10::intrusive_ptr<c10d::Store>()>& open_store, int rank, int num_ranks,
    const CopyEngineOptions& options) {
  return make_device_transport(
      open_store, rank, num_ranks, {options.device, options.heartbeat_timeout},
      [&](Meeting& meeting) { return std::make_unique<CopyFabric>(meeting, rank, options); });
}

}  // namespace counterflow::runtime
