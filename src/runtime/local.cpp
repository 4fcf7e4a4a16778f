#include "counterflow/runtime/local.h"

#include <ATen/core/Tensor.h>
#include <c10/core/AutogradState.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <exception>
#include <map>
#include <numeric>
#include <thread>
#include <utility>

#include "counterflow/runtime/error.h"
#include "device_order.h"
#include "local_hub.h"

namespace counterflow::runtime {
namespace {

Tensors copies_of(const Tensors& tensors) {
  const c10::AutoGradMode no_grad(false);
  Tensors copies;
  copies.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors)
    copies.push_back(tensor.defined() ? tensor.detach().clone(at::MemoryFormat::Contiguous) : tensor);
  return copies;
}

std::vector<Tensors*> by_rank(const std::map<int, void*>& brought) {
  std::vector<Tensors*> all;
  for (const auto& [rank, tensors] : brought) all.push_back(static_cast<Tensors*>(tensors));
  return all;
}

/// Sums tensor i of all ranks into all of them.
void sum(const std::vector<Tensors*>& ranks, std::size_t i) {
  at::Tensor total;
  for (const Tensors* tensors : ranks) {
    const at::Tensor& part = (*tensors)[i];
    if (!part.defined()) continue;
    if (total.defined() && !alike({total}, {part}))
      throw TransportError("a sum over " + describe(total) + " on one rank and " + describe(part) +
                           " on another");
    total = total.defined() ? total.add_(part.to(total.device())) : part.clone();
  }
  if (!total.defined()) return;
  for (Tensors* tensors : ranks) {
    at::Tensor& mine = (*tensors)[i];
    if (mine.defined())
      mine.copy_(total);
    else
      mine = total.clone();
  }
  finish_work({total});
}

class LocalTransport : public Transport {
 public:
  LocalTransport(std::shared_ptr<LocalHub> hub, int rank, const LocalOptions& options)
      : hub_(std::move(hub)), rank_(rank), rendezvous_(options.rendezvous) {}
  ~LocalTransport() override { hub_->leave(rank_); }

  int rank() const override { return rank_; }
  int num_ranks() const override { return hub_->num_ranks(); }

  void set_timeout(std::chrono::milliseconds timeout) override { timeout_ = timeout; }

  void connect(const Wiring& wiring) override {
    wiring_ = wiring;
    for (const Wiring::Channel& channel : wiring.channels) {
      if (channel.to == rank_) incoming_[channel.from].buffers = channel.buffers;
      if (channel.from == rank_) outgoing_.push_back(channel.to);
    }
  }

  void send(int to, Message message) override {
    if (std::find(outgoing_.begin(), outgoing_.end(), to) == outgoing_.end())
      throw TransportError("there is no channel from rank " + std::to_string(rank_) + " to rank " +
                           std::to_string(to));
    if (!rendezvous_) message.tensors = copies_of(message.tensors);
    DeviceEvents ready = devices_now(message.tensors);
    hub_->send(rank_, to, {std::move(message), std::move(ready)});
    ++sent_;
  }

  void post_receive(int from, int buffer, const Pass& producer) override {
    Incoming& incoming = incoming_from(from);
    if (buffer < 0 || buffer >= incoming.buffers)
      throw TransportError("there are " + std::to_string(incoming.buffers) + " buffers from rank " +
                           std::to_string(from) + "; a receive was posted into buffer " +
                           std::to_string(buffer));
    if (find(incoming, buffer) != incoming.posted.end())
      throw TransportError("a second receive was posted into buffer " + std::to_string(buffer) +
                           " from rank " + std::to_string(from));
    incoming.posted.push_back({buffer, producer, std::nullopt});
  }

  Message wait(int from, int buffer) override {
    Incoming& incoming = incoming_from(from);
    const auto wanted = find(incoming, buffer);
    if (wanted == incoming.posted.end())
      throw TransportError("no receive was posted into buffer " + std::to_string(buffer) + " from rank " +
                           std::to_string(from));
    // Messages come in the order in which their receives were posted, which may not be that of the waits.
    for (auto receive = incoming.posted.begin(); receive <= wanted; ++receive)
      if (!receive->message) take(from, *receive);
    Message message = std::move(*wanted->message);
    incoming.posted.erase(wanted);
    return message;
  }

  void flush() override {
    if (rendezvous_) hub_->wait_received(rank_, sent_, timeout_);
  }

  void all_reduce(int group, Tensors& tensors) override {
    meet("the sum", group, &tensors, [](const std::map<int, void*>& brought) {
      const c10::AutoGradMode no_grad(false);
      const std::vector<Tensors*> ranks = by_rank(brought);
      for (const Tensors* other : ranks)
        if (other->size() != ranks.front()->size())
          throw TransportError("a sum over " + std::to_string(ranks.front()->size()) +
                               " tensors on one rank and " + std::to_string(other->size()) + " on another");
      for (std::size_t i = 0; i < ranks.front()->size(); ++i) sum(ranks, i);
      for (const Tensors* all : ranks) finish_work(*all);
    });
  }

  void broadcast(int group, int root, Tensors& tensors) override {
    meet("the broadcast from rank " + std::to_string(root), group, &tensors,
         [root](const std::map<int, void*>& brought) {
           const c10::AutoGradMode no_grad(false);
           const Tensors& source = *static_cast<Tensors*>(brought.at(root));
           for (const auto& [rank, pointer] : brought) {
             Tensors& target = *static_cast<Tensors*>(pointer);
             if (!alike(source, target))
               throw TransportError("rank " + std::to_string(root) + " starts with " + describe(source) +
                                    ", rank " + std::to_string(rank) + " with " + describe(target));
             if (rank == root) continue;
             for (std::size_t i = 0; i < source.size(); ++i) target[i].copy_(source[i]);
             finish_work(target);
           }
         });
  }

  std::vector<std::string> all_gather(std::string_view bytes) override {
    struct Gathered {
      std::string_view mine;
      std::vector<std::string> all;
    };
    Gathered gathered{bytes, {}};
    std::vector<std::int32_t> everybody(num_ranks());
    std::iota(everybody.begin(), everybody.end(), 0);
    hub_->meet(everybody, rank_, "a gathering of all", &gathered, timeout_,
               [](const std::map<int, void*>& brought) {
                 for (const auto& [rank, pointer] : brought)
                   for (const auto& [other, from] : brought)
                     static_cast<Gathered*>(pointer)->all.emplace_back(static_cast<Gathered*>(from)->mine);
               });
    return std::move(gathered.all);
  }

  void abort(std::string_view reason) noexcept override { hub_->abort(rank_, reason); }

 private:
  struct Receive {
    int buffer;
    Pass producer;
    std::optional<Message> message;
  };

  /// The receiving end of a channel.
  struct Incoming {
    int buffers = 0;
    std::deque<Receive> posted;  ///< and not yet waited for, in the order of the messages
  };

  Incoming& incoming_from(int from) {
    const auto found = incoming_.find(from);
    if (found == incoming_.end())
      throw TransportError("there is no channel from rank " + std::to_string(from) + " to rank " +
                           std::to_string(rank_));
    return found->second;
  }

  static std::deque<Receive>::iterator find(Incoming& incoming, int buffer) {
    return std::find_if(incoming.posted.begin(), incoming.posted.end(),
                        [buffer](const Receive& receive) { return receive.buffer == buffer; });
  }

  void take(int from, Receive& receive) {
    LocalHub::Parcel parcel = hub_->receive(from, rank_, timeout_);
    take_over(parcel.message.tensors, parcel.ready);
    receive.message = std::move(parcel.message);
    if (rendezvous_) {
      receive.message->tensors = copies_of(receive.message->tensors);
      finish_work(receive.message->tensors);
      hub_->count_received(from);
    }
    if (receive.message->producer != receive.producer)
      throw TransportError("rank " + std::to_string(from) + " sent " + to_string(receive.message->producer) +
                           " where " + to_string(receive.producer) + " was expected");
  }

  void meet(const std::string& call, int group, Tensors* tensors, const LocalHub::Act& act) {
    finish_work(*tensors);
    hub_->meet(wiring_.groups.at(group), rank_, call + " over group " + std::to_string(group), tensors,
               timeout_, act);
  }

  const std::shared_ptr<LocalHub> hub_;
  const int rank_;
  const bool rendezvous_;
  std::chrono::milliseconds timeout_ = std::chrono::minutes(5);
  Wiring wiring_;
  std::vector<std::int32_t> outgoing_;
  std::map<int, Incoming> incoming_;  ///< by sender
  std::int64_t sent_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Transport>> make_local_transports(int num_ranks, const LocalOptions& options) {
  const auto hub = std::make_shared<LocalHub>(num_ranks);
  std::vector<std::unique_ptr<Transport>> ends;
  for (int rank = 0; rank < num_ranks; ++rank)
    ends.push_back(std::make_unique<LocalTransport>(hub, rank, options));
  return ends;
}

void run_local(int num_ranks, const std::function<void(Transport&)>& body, const LocalOptions& options) {
  const auto hub = std::make_shared<LocalHub>(num_ranks);
  std::vector<std::exception_ptr> errors(num_ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
      LocalTransport transport(hub, rank, options);
      try {
        body(transport);
      } catch (const std::exception& error) {
        errors[rank] = std::current_exception();
        transport.abort(error.what());
      } catch (...) {
        errors[rank] = std::current_exception();
        transport.abort("something was thrown that is no exception");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (const auto failure = hub->failure(); failure && errors[failure->rank])
    std::rethrow_exception(errors[failure->rank]);
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace counterflow::runtime
