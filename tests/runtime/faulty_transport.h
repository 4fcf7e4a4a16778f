// A transport that does what real ones do on bad days.
#pragma once

#include <chrono>
#include <functional>
#include <random>
#include <thread>
#include <utility>

#include "counterflow/runtime/transport.h"
#include "world.h"

namespace counterflow::runtime {

/// What goes wrong, on one rank. All of it is within the contract but the last two.
struct Faults {
  std::uint64_t seed = 0;
  std::chrono::microseconds max_delay{0};               ///< before each call, at random
  std::function<bool(const Message&)> drops = nullptr;  ///< messages that are never sent
  std::function<void(Message&)> changes = nullptr;      ///< what is sent
};

class FaultyTransport : public Transport {
 public:
  /// `inner` outlives this.
  FaultyTransport(Transport& inner, Faults faults)
      : inner_(inner), faults_(std::move(faults)), random_(faults_.seed * 1000003 + inner.rank()) {}

  int rank() const override { return inner_.rank(); }
  int num_ranks() const override { return inner_.num_ranks(); }
  void set_timeout(std::chrono::milliseconds timeout) override { inner_.set_timeout(timeout); }
  void connect(const Wiring& wiring) override { inner_.connect(wiring); }

  void send(int to, Message message) override {
    delay();
    if (faults_.drops && faults_.drops(message)) return;
    if (faults_.changes) faults_.changes(message);
    inner_.send(to, std::move(message));
  }

  void post_receive(int from, int buffer, const Pass& producer) override {
    delay();
    inner_.post_receive(from, buffer, producer);
  }

  Message wait(int from, int buffer) override {
    delay();
    return inner_.wait(from, buffer);
  }

  void flush() override { inner_.flush(); }

  void all_reduce(int group, Tensors& tensors) override {
    delay();
    inner_.all_reduce(group, tensors);
  }

  void broadcast(int group, int root, Tensors& tensors) override { inner_.broadcast(group, root, tensors); }
  std::vector<std::string> all_gather(std::string_view bytes) override { return inner_.all_gather(bytes); }
  void abort(std::string_view reason) noexcept override { inner_.abort(reason); }

 private:
  void delay() {
    if (faults_.max_delay.count() == 0) return;
    // Most calls are not held up at all, some for long: ranks overtake one another.
    if (random_() % 4 == 0) std::this_thread::sleep_for(faults_.max_delay * (random_() % 1024) / 1024);
  }

  Transport& inner_;
  const Faults faults_;
  std::mt19937_64 random_;
};

/// A world whose messages come when they like.
inline World late(const World& world, const Faults& faults) {
  return {"late_" + world.name,
          [world, faults](int num_ranks, const std::function<void(Transport&)>& body) {
            world.run(num_ranks, [&](Transport& transport) {
              FaultyTransport late(transport, faults);
              body(late);
            });
          },
          world.processes};
}

}  // namespace counterflow::runtime
