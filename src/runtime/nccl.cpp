#include "counterflow/runtime/nccl.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "counterflow/runtime/error.h"
#include "cuda_event.h"
#include "device_transport.h"

namespace counterflow::runtime {
namespace {

using runtime::check;

std::string describe(ncclResult_t status, ncclComm_t comm = nullptr) {
  const std::string last = ncclGetLastError(comm);
  return ncclGetErrorString(status) + (last.empty() ? "" : " (" + last + ")");
}

void check(ncclResult_t status, const char* what) {
  if (status != ncclSuccess) throw TransportError(std::string(what) + ": " + describe(status));
}

/// All communicators of a rank: they are aborted together.
class Communicators {
 public:
  Communicators(Meeting& meeting, const NcclOptions& options) : meeting_(meeting), options_(options) {}

  /// In the order in which they were opened, which is the same on all ranks: NCCL has the ranks of one host
  /// wait for one another.
  ~Communicators() {
    for (std::thread& thread : aborting_) thread.join();
    for (const Named& one : all_) ncclCommDestroy(one.comm);
  }
  Communicators(const Communicators&) = delete;
  Communicators& operator=(const Communicators&) = delete;

  /// Collective among the communicator's ranks.
  ncclComm_t open(const std::string& name, int rank, int num_ranks) {
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
    ncclComm_t comm = make(name, id, rank, num_ranks);
    {
      const std::lock_guard lock(mutex_);
      if (!aborted_) return all_.emplace_back(Named{name, comm}).comm;
    }
    ncclCommAbort(comm);
    throw_aborted();
  }

  /// Has NCCL do what `body` asks for, all at once; no communicator is aborted meanwhile under its feet.
  template <class Body>
  void group(Body body) {
    const Call call(*this);
    try {
      check(ncclGroupStart(), "ncclGroupStart");
      try {
        body();
      } catch (...) {
        ncclGroupEnd();
        throw;
      }
      check(ncclGroupEnd(), "ncclGroupEnd");
    } catch (const TransportError&) {
      meeting_.check_alive();  // a rank that has failed says more than NCCL's complaint about it
      throw;
    }
  }

  /// NCCL finds some errors between calls: of the network, and that a rank on another host has gone. And a
  /// call may wait for a rank that never makes the same one.
  std::optional<std::string> find_error(std::chrono::milliseconds limit) {
    const std::lock_guard lock(mutex_);
    if (entered_ && Clock::now() - *entered_ > limit) return "a call of NCCL did not come to an end in time";
    for (const Named& one : all_) {
      ncclResult_t status = ncclSuccess;
      if (ncclCommGetAsyncError(one.comm, &status) != ncclSuccess) continue;
      if (status == ncclSuccess || status == ncclInProgress) continue;
      return "NCCL failed on " + one.name + ": " + describe(status, one.comm);
    }
    return std::nullopt;
  }

  void abort() noexcept {
    // A thread that is stuck inside NCCL is freed by the abort, so it is not waited for much longer.
    const std::unique_lock inside(inside_, std::chrono::seconds(2));
    const std::lock_guard lock(mutex_);
    aborted_ = true;
    // All at once: the abort of one waits for the device, where another's transfer waits for a peer. And for
    // graphs that use the communicator, which the calling thread may have to destroy yet: not here.
    for (const Named& one : all_) aborting_.emplace_back([comm = one.comm] { ncclCommAbort(comm); });
    all_.clear();
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Named {
    std::string name;
    ncclComm_t comm;
  };

  /// A thread inside NCCL.
  class Call {
   public:
    explicit Call(Communicators& all) : all_(all), inside_(all.inside_) {
      if (!all_.enter()) all_.throw_aborted();
    }
    ~Call() {
      const std::lock_guard lock(all_.mutex_);
      all_.entered_.reset();
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Communicators& all_;
    const std::unique_lock<std::timed_mutex> inside_;
  };

  /// On a thread of its own, since NCCL waits without limit for ranks that may have gone. A thread that waits
  /// for such a rank cannot be freed, and is left behind.
  ncclComm_t make(const std::string& name, const ncclUniqueId& id, int rank, int num_ranks) {
    const std::string what = "ncclCommInitRankConfig of " + name;
    std::packaged_task<ncclComm_t()> init([what, id, rank, num_ranks, options = options_] {
      c10::cuda::set_device(static_cast<c10::DeviceIndex>(options.device));
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      if (options.max_ctas > 0) {
        config.minCTAs = 1;
        config.maxCTAs = options.max_ctas;
      }
      ncclComm_t comm = nullptr;
      check(ncclCommInitRankConfig(&comm, num_ranks, id, rank, &config), what.c_str());
      return comm;
    });
    std::future<ncclComm_t> made = init.get_future();
    std::thread thread(std::move(init));
    try {
      meeting_.wait_until(what + " did not come to an end", [&made] {
        return made.wait_for(std::chrono::milliseconds(1)) == std::future_status::ready;
      });
    } catch (...) {
      thread.detach();
      throw;
    }
    thread.join();
    return made.get();
  }

  /// Whether nothing has been aborted yet.
  bool enter() {
    const std::lock_guard lock(mutex_);
    if (!aborted_) entered_ = Clock::now();
    return !aborted_;
  }

  [[noreturn]] void throw_aborted() {
    meeting_.check_alive();
    throw TransportError("this rank has aborted");
  }

  Meeting& meeting_;
  const NcclOptions options_;
  std::timed_mutex inside_;  ///< held by a thread inside NCCL
  std::mutex mutex_;         ///< of the following
  std::vector<Named> all_;
  std::vector<std::thread> aborting_;
  std::optional<Clock::time_point> entered_;  ///< when the call under way began
  bool aborted_ = false;
};

/// A communicator of two, so that its order is that of one direction.
class NcclLine : public DeviceLine {
 public:
  NcclLine(Communicators& all, ncclComm_t comm, cudaStream_t stream, bool sends)
      : all_(all), comm_(comm), stream_(stream), sends_(sends) {}

  cudaStream_t stream() const override { return stream_; }

  void send(const Tensors& tensors) override {
    all_.group([&] {
      for (const at::Tensor& tensor : tensors)
        if (tensor.defined() && tensor.numel() > 0) start(tensor);
    });
  }

  void receive(Tensors& tensors) override { send(tensors); }

  /// NCCL connects two ranks at their first message, and makes the host wait for it: here, not in a step.
  void touch(Meeting& meeting, at::Device device) {
    const at::Tensor byte = at::zeros({1}, at::TensorOptions(at::kByte).device(device));
    meeting.drain(c10::cuda::getCurrentCUDAStream(device.index()).stream());
    all_.group([&] { start(byte); });
    meeting.drain(stream());
  }

 private:
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
    all_.group([&] {
      for (std::size_t peer = 0; peer < parts.size(); ++peer) {
        if (peer == own) continue;
        parts[peer] = at::empty_like(mine);
        const auto index = static_cast<int>(peer);
        check(ncclSend(mine.const_data_ptr(), mine.nbytes(), ncclInt8, index, comm_, stream), "ncclSend");
        check(ncclRecv(parts[peer].mutable_data_ptr(), mine.nbytes(), ncclInt8, index, comm_, stream),
              "ncclRecv");
      }
    });
    return [] {};  // on the current stream itself
  }

  void broadcast(std::size_t, std::size_t root, at::Tensor& whole) override {
    all_.group([&] {
      check(ncclBroadcast(whole.const_data_ptr(), whole.mutable_data_ptr(), whole.nbytes(), ncclInt8,
                          static_cast<int>(root), comm_, compute()),
            "ncclBroadcast");
    });
  }

  /// As NcclLine::touch(), for exchange().
  void touch(Meeting& meeting, at::Device device, std::size_t own, std::size_t num_ranks) {
    Tensors bytes(num_ranks);
    bytes[own] = at::zeros({1}, at::TensorOptions(at::kByte).device(device));
    exchange(own, bytes);
    meeting.drain(compute());
  }

 private:
  static cudaStream_t compute() { return c10::cuda::getCurrentCUDAStream().stream(); }

  Communicators& all_;
  ncclComm_t comm_;
};

class NcclFabric : public DeviceFabric {
 public:
  NcclFabric(Meeting& meeting, int rank, const NcclOptions& options)
      : meeting_(meeting), rank_(rank), options_(options), communicators_(meeting, options) {}

  const char* name() const override { return "NCCL"; }

  DeviceLine& open_line(int from, int to) override {
    const std::string name = "channel/" + std::to_string(from) + "-" + std::to_string(to);
    ncclComm_t comm = communicators_.open(name, from == rank_ ? 0 : 1, 2);
    NcclLine& line = lines_.emplace_back(communicators_, comm, streams_.emplace_back().get(), from == rank_);
    line.touch(meeting_, device());
    return line;
  }

  DeviceGroup& open_group(int number, const std::vector<std::int32_t>& ranks) override {
    const std::size_t own = std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
    ncclComm_t comm = communicators_.open("group/" + std::to_string(number), static_cast<int>(own),
                                          static_cast<int>(ranks.size()));
    NcclGroup& group = groups_.emplace_back(communicators_, comm);
    group.touch(meeting_, device(), own, ranks.size());
    return group;
  }

  std::optional<std::string> find_error(std::chrono::milliseconds limit) override {
    return communicators_.find_error(limit);
  }
  void abort() noexcept override { communicators_.abort(); }

  /// ncclCommDestroy waits for what is under way, also where it never ends.
  void close() noexcept override {
    try {
      for (const NcclLine& line : lines_) meeting_.drain(line.stream());
      meeting_.drain(c10::cuda::getCurrentCUDAStream(device().index()).stream());
    } catch (const std::exception&) {
      communicators_.abort();
    }
  }

 private:
  at::Device device() const { return {at::kCUDA, static_cast<c10::DeviceIndex>(options_.device)}; }

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
