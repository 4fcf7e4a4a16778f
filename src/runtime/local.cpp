#include "counterflow/runtime/local.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/AutogradState.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <exception>
#include <map>
#include <numeric>
#include <thread>
#include <utility>

#include "counterflow/runtime/error.h"
#include "local_hub.h"

namespace counterflow::runtime {
namespace {

class LocalTransport : public Transport {
 public:
  LocalTransport(std::shared_ptr<LocalHub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {}
  ~LocalTransport() override { hub_->leave(rank_); }

  int rank() const override { return rank_; }
  int num_ranks() const override { return hub_->num_ranks(); }

  void connect(const Wiring& wiring) override { wiring_ = wiring; }

  void send(int to, Message message) override {
    const c10::AutoGradMode no_grad(false);
    for (at::Tensor& tensor : message.tensors)
      if (tensor.defined()) tensor = tensor.detach().clone(at::MemoryFormat::Contiguous);
    hub_->send(rank_, to, std::move(message));
  }

  void post_receive(int from, int buffer, const Pass& producer) override {
    posted_[from].push_back({buffer, producer, std::nullopt});
  }

  Message wait(int from, int buffer) override {
    std::deque<Receive>& receives = posted_[from];
    const auto wanted = std::find_if(receives.begin(), receives.end(),
                                     [buffer](const Receive& receive) { return receive.buffer == buffer; });
    if (wanted == receives.end())
      throw TransportError("buffer " + std::to_string(buffer) + " of rank " + std::to_string(from) +
                           " is waited for and was not posted");
    for (auto receive = receives.begin(); receive <= wanted; ++receive)
      if (!receive->message) receive->message = take(from, receive->producer);
    Message message = std::move(*wanted->message);
    receives.erase(wanted);
    return message;
  }

  void flush() override {}

  void all_reduce(int group, Tensors& tensors) override {
    meet(group, &tensors, [](const std::map<int, void*>& brought) { sum(brought); });
  }

  void broadcast(int group, int root, Tensors& tensors) override {
    meet(group, &tensors, [root](const std::map<int, void*>& brought) {
      const c10::AutoGradMode no_grad(false);
      const Tensors& source = *static_cast<Tensors*>(brought.at(root));
      for (const auto& [rank, pointer] : brought) {
        Tensors& target = *static_cast<Tensors*>(pointer);
        if (rank == root) continue;
        if (!alike(source, target))
          throw TransportError("rank " + std::to_string(root) + " broadcasts " + describe(source) +
                               "; rank " + std::to_string(rank) + " expects " + describe(target));
        for (std::size_t i = 0; i < source.size(); ++i) target[i].copy_(source[i]);
      }
    });
  }

  std::vector<std::string> all_gather(std::string_view bytes) override {
    std::vector<std::int32_t> everybody(num_ranks());
    std::iota(everybody.begin(), everybody.end(), 0);
    Gathered mine{bytes, {}};
    hub_->meet(everybody, rank_, &mine, wiring_.timeout, [](const std::map<int, void*>& brought) {
      for (const auto& [rank, pointer] : brought)
        for (const auto& [other, from] : brought)
          static_cast<Gathered*>(pointer)->all.emplace_back(static_cast<Gathered*>(from)->mine);
    });
    return std::move(mine.all);
  }

  void abort(std::string_view reason) noexcept override { hub_->abort(rank_, reason); }

 private:
  struct Receive {
    int buffer;
    Pass producer;
    std::optional<Message> message;
  };

  struct Gathered {
    std::string_view mine;
    std::vector<std::string> all;
  };

  Message take(int from, const Pass& producer) {
    Message message = hub_->receive(from, rank_, wiring_.timeout, producer);
    if (message.producer != producer)
      throw TransportError("rank " + std::to_string(from) + " sent " + to_string(message.producer) +
                           " where " + to_string(producer) + " was expected");
    return message;
  }

  void meet(int group, Tensors* tensors, const LocalHub::Act& act) {
    hub_->meet(wiring_.groups.at(group), rank_, tensors, wiring_.timeout, act);
  }

  static void sum(const std::map<int, void*>& brought) {
    const c10::AutoGradMode no_grad(false);
    std::vector<Tensors*> ranks;
    for (const auto& [rank, tensors] : brought) ranks.push_back(static_cast<Tensors*>(tensors));
    for (const Tensors* tensors : ranks)
      if (tensors->size() != ranks[0]->size())
        throw TransportError("a sum over " + std::to_string(ranks[0]->size()) + " tensors on one rank and " +
                             std::to_string(tensors->size()) + " on another");
    for (std::size_t i = 0; i < ranks[0]->size(); ++i) {
      at::Tensor total;
      for (const Tensors* tensors : ranks) {
        const at::Tensor& part = tensors->at(i);
        if (part.defined()) total = total.defined() ? total.add_(part) : part.clone();
      }
      if (!total.defined()) continue;
      for (Tensors* tensors : ranks) {
        at::Tensor& mine = (*tensors)[i];
        if (mine.defined())
          mine.copy_(total);
        else
          mine = total.clone();
      }
    }
  }

  std::shared_ptr<LocalHub> hub_;
  int rank_;
  Wiring wiring_;
  std::map<int, std::deque<Receive>> posted_;  ///< by sender, in the order in which they were posted
};

}  // namespace

std::vector<std::unique_ptr<Transport>> make_local_transports(int num_ranks) {
  auto hub = std::make_shared<LocalHub>(num_ranks);
  std::vector<std::unique_ptr<Transport>> ends;
  for (int rank = 0; rank < num_ranks; ++rank) ends.push_back(std::make_unique<LocalTransport>(hub, rank));
  return ends;
}

void run_local(int num_ranks, const std::function<void(Transport&)>& body) {
  const auto hub = std::make_shared<LocalHub>(num_ranks);
  std::vector<std::exception_ptr> errors(num_ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
      LocalTransport transport(hub, rank);
      try {
        body(transport);
      } catch (const std::exception& error) {
        errors[rank] = std::current_exception();
        transport.abort(error.what());
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
