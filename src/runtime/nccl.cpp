#include "counterflow/runtime/nccl.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "counterflow/runtime/error.h"
#include "cuda_event.h"
#include "device_transport.h"

namespace counterflow::runtime {
namespace {

using runtime::check;

void check(ncclResult_t status, const char* what) {
  if (status != ncclSuccess) {
    throw TransportError(std::string(what) + ": " + ncclGetErrorString(status) + " (" +
                         ncclGetLastError(nullptr) + ")");
  }
}

/// All communicators of a rank: they are aborted together.
class Communicators {
 public:
  explicit Communicators(Meeting& meeting) : meeting_(meeting) {}

  ~Communicators() {
    for (ncclComm_t comm : comms_)
      if (!aborted_) ncclCommDestroy(comm);
  }
  Communicators(const Communicators&) = delete;
  Communicators& operator=(const Communicators&) = delete;

  /// Collective among the communicator's ranks.
  ncclComm_t open(const std::string& name, int rank, int num_ranks, int max_ctas) {
    ncclUniqueId id{};
    const std::string key = "counterflow/nccl/" + name;
    if (rank == 0) {
      check(ncclGetUniqueId(&id), "ncclGetUniqueId");
      meeting_.set(key, std::string(id.internal, sizeof id.internal));
    } else {
      const std::string bytes = meeting_.fetch(key);
      if (bytes.size() != sizeof id.internal)
        throw TransportError("the first rank of " + name + " announced no NCCL id");
      std::copy(bytes.begin(), bytes.end(), id.internal);
    }
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    if (max_ctas > 0) {
      config.minCTAs = 1;
      config.maxCTAs = max_ctas;
    }
    ncclComm_t comm = nullptr;
    check(ncclCommInitRankConfig(&comm, num_ranks, id, rank, &config),
          ("ncclCommInitRankConfig of " + name).c_str());
    const std::lock_guard lock(mutex_);
    return comms_.emplace_back(comm);
  }

  /// Held while this thread is inside NCCL, so that no communicator is aborted under its feet.
  std::unique_lock<std::timed_mutex> lock() {
    std::unique_lock lock(mutex_);
    if (aborted_) {
      lock.unlock();
      meeting_.check_alive();
      throw TransportError("this rank has aborted");
    }
    return lock;
  }

  void abort() noexcept {
    // A thread that is stuck inside NCCL is freed by the abort, so it is not waited for much longer.
    const std::unique_lock lock(mutex_, std::chrono::seconds(2));
    aborted_ = true;
    // All at once: the abort of one waits for the device, where another's transfer waits for a peer.
    std::vector<std::thread> threads;
    for (ncclComm_t comm : comms_) threads.emplace_back([comm] { ncclCommAbort(comm); });
    for (std::thread& thread : threads) thread.join();
  }

 private:
  Meeting& meeting_;
  std::timed_mutex mutex_;
  std::vector<ncclComm_t> comms_;
  bool aborted_ = false;
};

/// A communicator of two, so that its order is that of one direction.
class NcclLine : public DeviceLine {
 public:
  NcclLine(Communicators& all, ncclComm_t comm, cudaStream_t stream, bool sends)
      : all_(all), comm_(comm), stream_(stream), sends_(sends) {}

  cudaStream_t stream() const override { return stream_; }

  void send(const Tensors& tensors) override {
    in_group([&] {
      for (const at::Tensor& tensor : tensors)
        if (tensor.defined() && tensor.numel() > 0) start(tensor);
    });
  }

  void receive(Tensors& tensors) override { send(tensors); }

  /// NCCL connects two ranks at their first message, and makes the host wait for it: here, not in a step.
  void touch(Meeting& meeting, at::Device device) {
    const at::Tensor byte = at::zeros({1}, at::TensorOptions(at::kByte).device(device));
    meeting.drain(c10::cuda::getCurrentCUDAStream(device.index()).stream());
    in_group([&] { start(byte); });
    meeting.drain(stream());
  }

 private:
  template <class Body>
  void in_group(Body body) {
    const auto lock = all_.lock();
    check(ncclGroupStart(), "ncclGroupStart");
    body();
    check(ncclGroupEnd(), "ncclGroupEnd");
  }

  void start(const at::Tensor& tensor) {
    if (sends_)
      check(ncclSend(tensor.const_data_ptr(), tensor.nbytes(), ncclInt8, 1, comm_, stream()), "ncclSend");
    else
      check(ncclRecv(tensor.data_ptr(), tensor.nbytes(), ncclInt8, 0, comm_, stream()), "ncclRecv");
  }

  Communicators& all_;
  ncclComm_t comm_;
  const cudaStream_t stream_;
  const bool sends_;
};

class NcclGroup : public DeviceGroup {
 public:
  NcclGroup(Communicators& all, ncclComm_t comm) : all_(all), comm_(comm) {}

  std::function<void()> exchange(std::size_t own, Tensors& parts) override {
    const at::Tensor& mine = parts[own];
    const cudaStream_t stream = compute();
    const auto lock = all_.lock();
    check(ncclGroupStart(), "ncclGroupStart");
    for (std::size_t peer = 0; peer < parts.size(); ++peer) {
      if (peer == own) continue;
      parts[peer] = at::empty_like(mine);
      const auto index = static_cast<int>(peer);
      check(ncclSend(mine.const_data_ptr(), mine.nbytes(), ncclInt8, index, comm_, stream), "ncclSend");
      check(ncclRecv(parts[peer].mutable_data_ptr(), mine.nbytes(), ncclInt8, index, comm_, stream),
            "ncclRecv");
    }
    check(ncclGroupEnd(), "ncclGroupEnd");
    return [] {};  // on the current stream itself
  }

  void broadcast(std::size_t, std::size_t root, at::Tensor& whole) override {
    const auto lock = all_.lock();
    check(ncclBroadcast(whole.const_data_ptr(), whole.mutable_data_ptr(), whole.nbytes(), ncclInt8,
                        static_cast<int>(root), comm_, compute()),
          "ncclBroadcast");
  }

 private:
  static cudaStream_t compute() { return c10::cuda::getCurrentCUDAStream().stream(); }

  Communicators& all_;
  ncclComm_t comm_;
};

class NcclFabric : public DeviceFabric {
 public:
  NcclFabric(Meeting& meeting, int rank, const NcclOptions& options)
      : meeting_(meeting), rank_(rank), options_(options), communicators_(meeting) {}

  const char* name() const override { return "NCCL"; }

  DeviceLine& open_line(int from, int to) override {
    const std::string name = "channel/" + std::to_string(from) + "-" + std::to_string(to);
    ncclComm_t comm = communicators_.open(name, from == rank_ ? 0 : 1, 2, options_.max_ctas);
    NcclLine& line = lines_.emplace_back(communicators_, comm, streams_.emplace_back().get(), from == rank_);
    line.touch(meeting_, {at::kCUDA, static_cast<c10::DeviceIndex>(options_.device)});
    return line;
  }

  DeviceGroup& open_group(int number, const std::vector<std::int32_t>& ranks) override {
    const auto own = std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
    ncclComm_t comm = communicators_.open("group/" + std::to_string(number), static_cast<int>(own),
                                          static_cast<int>(ranks.size()), options_.max_ctas);
    return groups_.emplace_back(communicators_, comm);
  }

  void abort() noexcept override { communicators_.abort(); }

 private:
  Meeting& meeting_;
  const int rank_;
  const NcclOptions options_;
  std::deque<LineStream> streams_;  ///< outlive the communicators
  Communicators communicators_;
  std::deque<NcclLine> lines_;
  std::deque<NcclGroup> groups_;
};

}  // namespace

std::unique_ptr<Transport> make_nccl_transport(
    const std::function<c10::intrusive_ptr<c10d::Store>()>& open_store, int rank, int num_ranks,
    const NcclOptions& options) {
  return make_device_transport(
      open_store, rank, num_ranks, {options.device, options.heartbeat_timeout},
      [&](Meeting& meeting) { return std::make_unique<NcclFabric>(meeting, rank, options); });
}

}  // namespace counterflow::runtime
