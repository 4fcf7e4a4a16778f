#include "counterflow/runtime/copy_engines.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
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
#include "host_flags.h"
#include "mapped_memory.h"
#include "stream_values.h"

namespace counterflow::runtime {
namespace {

cudaStream_t compute_stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

/// Both ends of a line. The receiver's GPU has slots, and the receiver a flag for each, that it is full; the
/// sender has one, that it is free.
class CopyLine : public DeviceLine {
 public:
  CopyLine(const StreamValues& values, const CopyEngineOptions& options, bool sends)
      : values_(values), slots_(options.slots), slot_bytes_(options.slot_bytes), flags_(slots_) {
    if (sends)
      flags_.raise_all();
    else
      memory_.emplace(slots_ * slot_bytes_);
  }

  std::string handle() const { return flags_.handle() + (memory_ ? memory_->handle() : ""); }

  void meet(const std::string& handle_of_other) {
    other_flags_.emplace(handle_of_other.substr(0, HostFlags::kHandleBytes));
    if (!memory_) other_memory_.emplace(handle_of_other.substr(HostFlags::kHandleBytes));
  }

  cudaStream_t stream() const override { return stream_.get(); }

  void send(const Tensors& tensors) override {
    for_each_slot(tensors, [this](std::byte* part, std::size_t bytes, std::size_t slot) {
      take(slot);
      copy(other_memory_->data() + slot * slot_bytes_, part, bytes);
      raise(slot);
    });
  }

  void receive(Tensors& tensors) override {
    for_each_slot(tensors, [this](std::byte* part, std::size_t bytes, std::size_t slot) {
      take(slot);
      copy(part, memory_->data() + slot * slot_bytes_, bytes);
      raise(slot);
    });
  }

  /// Lets what waits here go on. Any thread.
  void let_go() const { flags_.raise_all(); }

  /// When nothing is under way here any more.
  void leave() {
    other_memory_.reset();  // before it is freed there
    flags_.leave();
  }

  /// Whether the other rank may still copy into this one's memory, or is yet to come for the handle.
  bool is_in_use() const { return !other_flags_ || !other_flags_->has_left(); }

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

  /// The stream waits until this rank's flag is raised, and lowers it.
  void take(std::size_t slot) const { values_.await_and_write(stream(), flags_.on_device(slot), 1, 0); }

  void copy(std::byte* to, const std::byte* from, std::size_t bytes) const {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream()), "cudaMemcpyAsync");
  }

  /// The other rank's. A stream's write comes after all that the stream wrote before, also for other GPUs.
  void raise(std::size_t slot) const { values_.write(stream(), other_flags_->on_device(slot), 1); }

  const StreamValues& values_;
  const std::size_t slots_;
  const std::size_t slot_bytes_;
  const HostFlags flags_;
  std::optional<PeerFlags> other_flags_;
  std::optional<SharedMemory> memory_;        ///< of a receiver
  std::optional<MappedMemory> other_memory_;  ///< of a sender: the receiver's
  const LineStream stream_;
  std::size_t next_ = 0;
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
    releaser_ = std::thread([this] { release(); });
  }

  /// When all ranks at the other ends have come here, too, none copies to this one any more, and its memory
  /// can be freed. Those that died never come.
  ~CopyFabric() override {
    const bool aborted = aborted_;
    // What is under way may wait for what the thread alone sets.
    if (aborted && cudaSetDevice(options_.device) == cudaSuccess) static_cast<void>(cudaDeviceSynchronize());
    for (const auto& line : lines_) line->leave();
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(aborted ? 1 : 5);
    const auto is_in_use = [](const auto& line) { return line->is_in_use(); };
    while (std::any_of(lines_.begin(), lines_.end(), is_in_use) && std::chrono::steady_clock::now() < give_up)
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    tell_releaser(ends_);
    releaser_.join();
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

  void abort() noexcept override { tell_releaser(aborted_); }

  void close() noexcept override {
    try {
      for (const auto& line : lines_) meeting_.drain(line->stream());
      meeting_.drain(compute_stream());  // what was recorded comes from there
    } catch (const std::exception&) {
      abort();
    }
  }

 private:
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

  /// What both ends of a line must have alike; stands before a handle, with kEnd between them.
  std::string slots() const {
    return std::to_string(options_.slots) + " slots of " + std::to_string(options_.slot_bytes) + " bytes";
  }
  static constexpr char kEnd = ':';

  CopyLine& open(const std::string& name, int from, int to) {
    const bool sends = from == rank_;
    const int peer = sends ? to : from;
    const std::string key =
        "counterflow/copy/" + name + "/" + std::to_string(from) + "-" + std::to_string(to) + "/";
    CopyLine& line =
        add(std::make_unique<CopyLine>(values_, name == "channel" ? options_ : options_in_group(), sends));
    meeting_.set(key + std::to_string(rank_), slots() + kEnd + line.handle());
    const std::string theirs = meeting_.fetch(key + std::to_string(peer));
    const std::size_t end = theirs.find(kEnd);
    if (theirs.substr(0, end) != slots())
      throw TransportError("rank " + std::to_string(peer) + " has " + theirs.substr(0, end) + ", rank " +
                           std::to_string(rank_) + " " + slots() + ": give all the same");
    line.meet(theirs.substr(end + 1));
    return line;
  }

  CopyLine& add(std::unique_ptr<CopyLine> line) {
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

  /// After an abort raises the flags that this rank's streams wait for, again and again, until they have
  /// nothing more to wait for: what was asked for before stays asked for. It asks nothing of the device,
  /// which may be busy with waits alone, or of its driver, which may hold the host up until one of them ends.
  void release() noexcept {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return aborted_ || ends_; });
    while (!ends_) {
      for (const auto& line : lines_) line->let_go();
      changed_.wait_for(lock, std::chrono::milliseconds(1), [this] { return ends_.load(); });
    }
  }

  void tell_releaser(std::atomic<bool>& what) noexcept {
    const std::lock_guard lock(mutex_);
    what = true;
    changed_.notify_all();
  }

  Meeting& meeting_;
  const int rank_;
  const CopyEngineOptions options_;
  const StreamValues values_;
  std::mutex mutex_;  ///< of adding a line, and of letting them go
  std::condition_variable changed_;
  std::vector<std::unique_ptr<CopyLine>> lines_;
  std::deque<CopyGroup> groups_;
  std::atomic<bool> aborted_ = false;
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
