#include "device_transport.h"

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <exception>
#include <map>
#include <optional>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <tuple>
#include <utility>

#include "counterflow/runtime/error.h"
#include "counterflow/runtime/log.h"
#include "cuda_event.h"
#include "device_sums.h"
#include "fault_watch.h"
#include "heartbeat.h"
#include "message_shape.h"

namespace counterflow::runtime {
namespace {

using Clock = std::chrono::steady_clock;

std::string seconds(std::chrono::milliseconds time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s";
}

bool is_capturing() {
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}

bool is_empty(cudaStream_t stream) {
  const cudaError_t status = cudaStreamQuery(stream);
  if (status != cudaErrorNotReady) check(status, "cudaStreamQuery");
  return status == cudaSuccess;
}

class DeviceTransport : public Transport, private Meeting {
 public:
  DeviceTransport(const OpenStore& open_store, int rank, int num_ranks, const DeviceOptions& options,
                  const MakeFabric& make_fabric)
      : shared_(open_store()), store_(shared_), rank_(rank), num_ranks_(num_ranks), options_(options) {
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(options.device));
    fabric_ = make_fabric(*this);
    const char* connections = std::getenv("CUDA_DEVICE_MAX_CONNECTIONS");
    if (connections != nullptr && std::string_view(connections) == "1")
      log(LogLevel::kWarn, rank, "CUDA_DEVICE_MAX_CONNECTIONS is 1: transfers will not overlap with compute");
    c10::intrusive_ptr<c10d::Store> of_beats = open_store();
    meet();
    heartbeat_.emplace(std::move(of_beats), rank, num_ranks, options.heartbeat_timeout,
                       [this](const Heartbeat::Failure&) { abort_fabric(); });
    faults_.start(*heartbeat_);
  }

  ~DeviceTransport() override {
    if (!aborted_ && std::uncaught_exceptions() > exceptions_) abort("an exception ended it");
    faults_.stop();
    if (!aborted_) fabric_->close();
    heartbeat_.reset();
  }

  int rank() const override { return rank_; }
  int num_ranks() const override { return num_ranks_; }
  bool can_be_recorded() const override { return true; }

  void set_timeout(std::chrono::milliseconds timeout) override { faults_.set_timeout(timeout); }

  /// Again for every pipeline, which finds nothing of an earlier one's.
  void connect(const Wiring& wiring) override {
    wiring_ = wiring;
    const std::string prefix = "counterflow/connection/" + std::to_string(++connections_);
    store_ = c10::make_intrusive<c10d::PrefixStore>(prefix, shared_);
    out_.clear();
    in_.clear();
    warm_ = {};
    sums_.emplace(static_cast<Meeting&>(*this), name(), rank_, options_.device);
    for (const Wiring::Channel& channel : wiring.channels) {
      if (channel.from != rank_ && channel.to != rank_) continue;
      DeviceLine& line = fabric_->open_line(channel.from, channel.to);
      (channel.from == rank_ ? out_[channel.to].line : in_[channel.from].line) = &line;
      if (channel.to == rank_) heartbeat_->watch(channel.from);
    }
    groups_.assign(wiring.groups.size(), nullptr);
    for (std::size_t g = 0; g < wiring.groups.size(); ++g) {
      const auto& ranks = wiring.groups[g];
      if (ranks.size() < 2 || std::find(ranks.begin(), ranks.end(), rank_) == ranks.end()) continue;
      groups_[g] = &fabric_->open_group(static_cast<int>(g), ranks);
    }
    faults_.note_connected();
  }

  /// Keeps the host no further ahead than it has to be: what does not fit into the device's queues holds it
  /// up inside the driver, and with it whoever has to let go there of what waits for a rank that has died.
  void begin_step(bool training) override {
    constexpr std::size_t kReplaysUnderWay = 2;
    faults_.note_asking();
    check_alive();
    while (!is_capturing() && faults_.device().num_replays() >= kReplaysUnderWay) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      check_alive();
      static_cast<void>(is_empty(compute()));  // throws where the device has failed
    }
    training_ = training;
    sums_->begin_step();
  }

  void replayed(std::function<std::string()> where) override {
    CudaEvent done;
    done.record(compute());
    faults_.device().add(std::move(done), std::move(where));
  }

  void send(int to, Message message) override {
    const c10::AutoGradMode no_grad(false);
    faults_.note_asking();
    Outgoing& out = out_.at(to);
    for (at::Tensor& tensor : message.tensors) {
      if (!tensor.defined()) continue;
      if (!tensor.is_cuda()) {
        throw TransportError(name() + " send tensors on a GPU, found " + describe(tensor) +
                             " on the CPU from " + to_string(message.producer));
      }
      tensor = tensor.detach().contiguous();
    }
    announce(to, out, message);
    Sent& sent = out.pending.emplace_back();
    sent.producer = message.producer;
    sent.to = to;
    sent.done.record(compute());  // it may be started when another stream is the current one
    sent.tensors = std::move(message.tensors);
    if (is_cold())
      hand_over();
    else
      start_sends(out, out.pending.size());
  }

  void post_receive(int from, int buffer, const Pass& producer) override {
    faults_.note_asking();
    Incoming& in = in_.at(from);
    in.posted.push_back({buffer, from, producer, current_stream()});
    start_known(in);
  }

  Message wait(int from, int buffer) override {
    faults_.note_asking();
    Incoming& in = in_.at(from);
    const auto wanted = std::find_if(in.posted.begin(), in.posted.end(),
                                     [buffer](const Receive& receive) { return receive.buffer == buffer; });
    if (wanted == in.posted.end()) {
      throw TransportError("buffer " + std::to_string(buffer) + " of rank " + std::to_string(from) +
                           " is waited for and was not posted");
    }
    for (auto receive = in.posted.begin(); receive <= wanted; ++receive) {
      if (receive->started) continue;
      const Kind kind = kind_of(receive->producer);
      if (!in.shapes.contains(kind))
        in.shapes[kind] = parse_message_shape(fetch(shape_key(from, rank_, kind)));
      if (is_cold())
        receive_cold(from, in, *receive);
      else
        start(in, *receive);
    }
    wanted->done.block(compute());
    Message message{wanted->producer, std::move(wanted->tensors),
                    in.shapes[kind_of(wanted->producer)].differentiable};
    if (!is_capturing()) faults_.device().add(std::move(wanted->done), wanted->producer, from);
    in.posted.erase(wanted);
    start_known(in);
    return message;
  }

  /// Orders the compute stream behind all sends: what is written to their tensors from now on comes after
  /// them.
  void flush() override {
    check_alive();
    if (is_cold())
      wait_until("what was sent was not received", [this] {
        return std::all_of(out_.begin(), out_.end(),
                           [](const auto& out) { return out.second.pending.empty(); });
      });
    warm_[training_ ? 1 : 0] = true;
    for (auto& [to, out] : out_) {
      if (!out.sent.empty()) out.sent.back().done.block(compute());
      out.sent.clear();
    }
  }

  void all_reduce(int group, Tensors& tensors) override {
    const std::vector<std::int32_t>& ranks = wiring_.groups.at(group);
    if (ranks.size() < 2) return;
    sums_->add_up(*groups_[group], group, ranks, tensors);
  }

  void broadcast(int group, int root, Tensors& tensors) override {
    const std::vector<std::int32_t>& ranks = wiring_.groups.at(group);
    if (ranks.size() < 2) return;
    const c10::AutoGradMode no_grad(false);
    const std::size_t own = std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
    const std::size_t first = std::find(ranks.begin(), ranks.end(), root) - ranks.begin();
    for (at::Tensor& tensor : tensors) {
      if (!tensor.defined() || tensor.numel() == 0) continue;
      at::Tensor whole = tensor.contiguous();
      groups_[group]->broadcast(own, first, whole);
      if (!whole.is_same(tensor)) tensor.copy_(whole);
    }
  }

  std::vector<std::string> all_gather(std::string_view bytes) override {
    const std::string prefix = gather_prefix(gathered_);
    // All have come to the last one, and so have read the one before it.
    if (gathered_ > 1) store_->deleteKey(gather_prefix(gathered_ - 2) + std::to_string(rank_));
    ++gathered_;
    store_->set(prefix + std::to_string(rank_), std::string(bytes) + ".");  // the store knows no empty values
    std::vector<std::string> all;
    for (int rank = 0; rank < num_ranks_; ++rank) {
      all.push_back(fetch(prefix + std::to_string(rank)));
      all.back().pop_back();
    }
    return all;
  }

  void abort(std::string_view reason) noexcept override {
    if (heartbeat_) heartbeat_->abort(std::string(reason));
    abort_fabric();
  }

 private:
  /// The stage that makes a message, whether it is a gradient, whether the step trains.
  using Kind = std::tuple<std::int32_t, bool, bool>;

  struct Sent {
    CudaEvent done;  ///< before the start: the tensors
    Tensors tensors;
    Pass producer;
    int to = 0;
  };
  struct Outgoing {
    DeviceLine* line = nullptr;
    std::map<Kind, MessageShape> shapes;
    std::deque<Sent> pending;  ///< not yet started
    std::int64_t handed = 0;   ///< messages of cold steps that were started
    std::deque<Sent> sent;
  };
  struct Receive {
    int buffer = 0;
    int from = 0;
    Pass producer;
    c10::Stream stream;  ///< the current one when it was posted: the message is for that
    bool started = false;
    CudaEvent done{};
    Tensors tensors{};
  };
  struct Incoming {
    DeviceLine* line = nullptr;
    std::map<Kind, MessageShape> shapes;
    std::int64_t asked = 0;  ///< messages of cold steps
    std::deque<Receive> posted;
  };

  Kind kind_of(const Pass& producer) const {
    return {producer.stage, producer.kind != PassKind::kForward, training_};
  }

  static std::string shape_key(int from, int to, const Kind& kind) {
    const auto& [stage, gradient, training] = kind;
    return "counterflow/shape/" + std::to_string(from) + "-" + std::to_string(to) + "/" +
           (training ? "training/" : "evaluation/") + std::to_string(stage) + (gradient ? "B" : "F");
  }

  static std::string gather_prefix(std::int64_t number) {
    return "counterflow/gather/" + std::to_string(number) + "/";
  }

  at::Device device() const { return {at::kCUDA, static_cast<c10::DeviceIndex>(options_.device)}; }

  c10::cuda::CUDAStream current_stream() const {
    return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(options_.device));
  }

  cudaStream_t compute() const { return current_stream().stream(); }

  void drain(cudaStream_t stream) override {
    wait_until("a stream of transfers was not done", [stream] { return is_empty(stream); });
  }

  /// A rank may come long after the others: only then are its beats expected.
  void meet() {
    const std::string prefix = "counterflow/here/";
    const std::string mine = prefix + std::to_string(rank_);
    if (store_->check({mine}))
      throw TransportError("the store has been another transport's of rank " + std::to_string(rank_) +
                           ": give each transport keys of its own (a c10d::PrefixStore over the store)");
    store_->set(mine, "1");
    for (int rank = 0; rank < num_ranks_; ++rank)
      wait_until("rank " + std::to_string(rank) + " did not come", [&] {
        if (store_->check({prefix + std::to_string(rank)})) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        return false;
      });
  }

  void set(const std::string& key, const std::string& value) override { store_->set(key, value); }

  /// Does not wait for a rank that has ended.
  std::string fetch(const std::string& key) override {
    const auto give_up = Clock::now() + faults_.timeout();
    while (!store_->check({key})) {
      check_alive();
      if (Clock::now() > give_up)
        throw TimeoutError("nothing came for " + key + " within " + seconds(faults_.timeout()));
      hand_over();
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    const auto bytes = store_->get(key);
    return {bytes.begin(), bytes.end()};
  }

  void check_alive() override {
    const auto failure = heartbeat_ ? heartbeat_->failure() : std::nullopt;
    if (!failure) return;
    const std::string awaited = failure->rank == rank_ ? "" : faults_.device_waits_for();
    throw PeerFailed(failure->rank, failure->reason + awaited);
  }

  std::string name() const { return fabric_->name(); }

  void announce(int to, Outgoing& out, const Message& message) {
    const Kind kind = kind_of(message.producer);
    MessageShape shape(message);
    const auto known = out.shapes.find(kind);
    if (known == out.shapes.end()) {
      store_->set(shape_key(rank_, to, kind), to_text(shape));
      out.shapes.emplace(kind, std::move(shape));
    } else if (!(known->second == shape)) {
      throw TransportError("over " + name() +
                           " a stage's messages are alike: " + to_string(message.producer) + " has " +
                           describe(message.tensors) + ", its first message had other types or shapes");
    }
  }

  /// The first step of a kind loads the device's code, which may wait until the device is idle, and so for
  /// ever if a transfer waits there for a peer that does the same. In such a step a transfer starts only when
  /// both hosts are there: the receiver asks for it in the store, and waits until it is done.
  bool is_cold() const { return !warm_[training_ ? 1 : 0]; }

  static std::string count_key(const char* what, int from, int to) {
    return std::string("counterflow/") + what + "/" + std::to_string(from) + "-" + std::to_string(to);
  }

  /// Starts the sends that their receivers have asked for.
  void hand_over() {
    for (auto& [to, out] : out_) {
      if (out.pending.empty()) continue;
      const std::int64_t asked = store_->add(count_key("asked", rank_, to), 0);
      const auto ready =
          std::min<std::int64_t>(asked - out.handed, static_cast<std::int64_t>(out.pending.size()));
      if (ready <= 0) continue;
      start_sends(out, static_cast<std::size_t>(ready));
      out.handed += ready;
      store_->add(count_key("handed", rank_, to), ready);
    }
  }

  /// The receiver's side of hand_over().
  void receive_cold(int from, Incoming& in, Receive& receive) {
    ++in.asked;
    store_->add(count_key("asked", from, rank_), 1);
    const std::string otherwise =
        "nothing came for " + to_string(receive.producer) + " from rank " + std::to_string(from);
    wait_until(otherwise, [&] { return store_->add(count_key("handed", from, rank_), 0) >= in.asked; });
    start(in, receive);
    wait_until(otherwise, [&] { return receive.done.is_done(); });
  }

  /// Hands over meanwhile what others ask for.
  void wait_until(const std::string& otherwise, const std::function<bool()>& ready) override {
    const auto give_up = Clock::now() + faults_.timeout();
    while (!ready()) {
      check_alive();
      if (Clock::now() > give_up) throw TimeoutError(otherwise + " within " + seconds(faults_.timeout()));
      hand_over();
      std::this_thread::yield();
    }
  }

  void start_sends(Outgoing& out, std::size_t count) {
    for (; count > 0; --count) start_send(out);
  }

  void start_send(Outgoing& out) {
    // What was made in a capture is reused by its order on one stream alone: nothing goes before flush().
    if (!is_capturing())
      while (!out.sent.empty() && out.sent.front().done.is_done()) out.sent.pop_front();
    Sent& sent = out.sent.emplace_back(std::move(out.pending.front()));
    out.pending.pop_front();
    sent.done.block(out.line->stream());
    name_if_it_fails(sent.producer, "to", sent.to, [&] { out.line->send(sent.tensors); });
    sent.done.record(out.line->stream());
  }

  /// Starts the receives at the head of the queue whose shapes are known.
  void start_known(Incoming& in) {
    if (is_cold()) return;
    for (Receive& receive : in.posted) {
      if (receive.started) continue;
      if (!in.shapes.contains(kind_of(receive.producer))) return;
      start(in, receive);
    }
  }

  void start(Incoming& in, Receive& receive) {
    const c10::StreamGuard guard(receive.stream);
    for (const TensorShape& one : in.shapes[kind_of(receive.producer)].tensors)
      receive.tensors.push_back(make_tensor(one, device()));
    // The memory is the compute stream's: what it held there before must be done with.
    receive.done.record(compute());
    receive.done.block(in.line->stream());
    name_if_it_fails(receive.producer, "from", receive.from, [&] { in.line->receive(receive.tensors); });
    receive.done.record(in.line->stream());
    receive.started = true;
  }

  /// "1B0 from rank 1: ncclRecv: ...".
  template <class Transfer>
  static void name_if_it_fails(const Pass& producer, const char* direction, int rank, Transfer transfer) {
    try {
      transfer();
    } catch (const PeerFailed&) {
      throw;
    } catch (const TransportError& error) {
      throw TransportError(to_string(producer) + " " + direction + " rank " + std::to_string(rank) + ": " +
                           error.what());
    }
  }

  void abort_fabric() noexcept {
    if (aborted_.exchange(true)) return;
    faults_.device_waits_for();
    fabric_->abort();
  }

  const c10::intrusive_ptr<c10d::Store> shared_;
  c10::intrusive_ptr<c10d::Store> store_;  ///< the same, with keys of this connection alone
  const int rank_;
  const int num_ranks_;
  const DeviceOptions options_;
  const int exceptions_ = std::uncaught_exceptions();
  std::unique_ptr<DeviceFabric> fabric_;
  int connections_ = 0;
  Wiring wiring_;
  bool training_ = true;
  std::array<bool, 2> warm_{};  ///< whether there was an evaluation, a training step
  std::map<int, Outgoing> out_;
  std::map<int, Incoming> in_;
  std::vector<DeviceGroup*> groups_;
  std::optional<DeviceSums> sums_;
  std::int64_t gathered_ = 0;
  std::atomic<bool> aborted_ = false;
  FaultWatch faults_{rank_, options_.device, options_.heartbeat_timeout,
                     [this](std::chrono::milliseconds limit) { return fabric_->find_error(limit); }};
  std::optional<Heartbeat> heartbeat_;  ///< whose thread calls abort_fabric()
};

}  // namespace

std::unique_ptr<Transport> make_device_transport(const OpenStore& open_store, int rank, int num_ranks,
                                                 const DeviceOptions& options,
                                                 const MakeFabric& make_fabric) {
  return std::make_unique<DeviceTransport>(open_store, rank, num_ranks, options, make_fabric);
}

}  // namespace counterflow::runtime
