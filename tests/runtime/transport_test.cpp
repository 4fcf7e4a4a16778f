// The contract of transport.h, over every implementation.
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <thread>

#include "counterflow/runtime/error.h"
#include "world.h"

namespace counterflow::runtime {
namespace {

class TransportTest : public testing::TestWithParam<World> {
 protected:
  static void run(int num_ranks, const std::function<void(Transport&)>& body) {
    GetParam().run(num_ranks, [&body](Transport& transport) {
      transport.set_timeout(std::chrono::seconds(20));
      body(transport);
    });
  }

  static Wiring line(int num_ranks, int buffers = 2) {
    Wiring wiring;
    for (int rank = 0; rank + 1 < num_ranks; ++rank) {
      wiring.channels.push_back({rank, rank + 1, buffers});
      wiring.channels.push_back({rank + 1, rank, buffers});
    }
    return wiring;
  }
};

at::Tensor number(double value) {
  return at::full({3}, value);
}

TEST_P(TransportTest, AChannelDeliversInOrderIntoNumberedBuffers) {
  run(2, [](Transport& transport) {
    transport.connect(line(2));
    if (transport.rank() == 0) {
      for (int m = 0; m < 10; ++m) transport.send(1, {forward(0, m), {number(m)}, {true}});
      transport.flush();
      return;
    }
    transport.post_receive(0, 0, forward(0, 0));
    transport.post_receive(0, 1, forward(0, 1));
    for (int m = 0; m < 10; m += 2) {
      // In the other order than they were posted in.
      EXPECT_TRUE(transport.wait(0, 1).tensors.at(0).equal(number(m + 1)));
      EXPECT_TRUE(transport.wait(0, 0).tensors.at(0).equal(number(m)));
      if (m == 8) break;
      transport.post_receive(0, 0, forward(0, m + 2));
      transport.post_receive(0, 1, forward(0, m + 3));
    }
  });
}

TEST_P(TransportTest, MessagesHoldTensorsOfAllKinds) {
  const Tensors sent{at::arange(6).view({2, 3}),
                     at::Tensor(),
                     at::ones({0, 4}),
                     at::full({}, 2.5, at::kHalf),
                     at::arange(12, at::kDouble).view({3, 4}).t(),
                     at::ones({2}, at::kBool)};
  run(2, [&](Transport& transport) {
    transport.connect(line(2));
    if (transport.rank() == 0) {
      transport.send(1, {forward(0, 0), sent, {0, 0, 1, 1, 1, 0}});
      transport.flush();
      return;
    }
    transport.post_receive(0, 0, forward(0, 0));
    const Message message = transport.wait(0, 0);
    ASSERT_TRUE(alike(message.tensors, sent));
    EXPECT_EQ(message.differentiable, (std::vector<char>{0, 0, 1, 1, 1, 0}));
    EXPECT_EQ(message.producer, forward(0, 0));
    for (std::size_t i = 0; i < sent.size(); ++i) {
      if (!sent[i].defined()) continue;
      EXPECT_TRUE(message.tensors[i].equal(sent[i]));
      EXPECT_TRUE(message.tensors[i].is_contiguous());
      EXPECT_TRUE(sent[i].numel() == 0 || message.tensors[i].data_ptr() != sent[i].data_ptr());
    }
  });
}

TEST_P(TransportTest, SendsDoNotWaitForReceives) {
  run(2, [](Transport& transport) {
    transport.connect(line(2));
    const int other = 1 - transport.rank();
    for (int m = 0; m < 5; ++m) transport.send(other, {forward(0, m), {number(m)}, {true}});
    for (int m = 0; m < 5; ++m) {
      transport.post_receive(other, 0, forward(0, m));
      EXPECT_TRUE(transport.wait(other, 0).tensors.at(0).equal(number(m)));
    }
    transport.flush();
  });
}

TEST_P(TransportTest, SumsAreTheSameEverywhereAndInOrderOfRanks) {
  run(3, [](Transport& transport) {
    Wiring wiring = line(3);
    wiring.groups = {{0, 1, 2}, {0, 2}};
    transport.connect(wiring);
    const double parts[] = {1e16, -1e16, 1};
    const int rank = transport.rank();
    Tensors tensors{at::full({2}, parts[rank], at::kDouble), rank == 1 ? at::ones({4}) : at::Tensor(),
                    at::Tensor()};
    transport.all_reduce(0, tensors);
    EXPECT_TRUE(tensors[0].equal(at::full({2}, 1.0, at::kDouble)));  // (1e16 - 1e16) + 1, in no other order
    EXPECT_TRUE(tensors[1].equal(at::ones({4})));
    EXPECT_FALSE(tensors[2].defined());
    if (rank == 1) return;
    Tensors two{number(rank)};
    transport.all_reduce(1, two);
    EXPECT_TRUE(two[0].equal(number(2)));
  });
}

TEST_P(TransportTest, BroadcastsAndGathers) {
  run(3, [](Transport& transport) {
    Wiring wiring = line(3);
    wiring.groups = {{0, 1, 2}};
    transport.connect(wiring);
    Tensors tensors{number(transport.rank())};
    transport.broadcast(0, 1, tensors);
    EXPECT_TRUE(tensors[0].equal(number(1)));
    const std::string mine(transport.rank(), 'x');
    EXPECT_EQ(transport.all_gather(mine), (std::vector<std::string>{"", "x", "xx"}));
  });
}

TEST_P(TransportTest, AnAbortEndsAllWaits) {
  run(3, [](Transport& transport) {
    Wiring wiring = line(3);
    wiring.groups = {{0, 2}};
    transport.connect(wiring);
    std::string reason = "none";
    try {
      if (transport.rank() == 1) {
        transport.abort("had enough");
        transport.abort("a second time");
      } else if (transport.rank() == 0) {
        transport.post_receive(1, 0, forward(1, 0));
        transport.wait(1, 0);
      } else {
        Tensors tensors{number(1)};
        transport.all_reduce(0, tensors);
      }
    } catch (const PeerFailed& error) {
      EXPECT_EQ(error.rank(), 1);
      reason = error.reason();
    }
    EXPECT_EQ(reason, transport.rank() == 1 ? "none" : "had enough");
  });
}

TEST_P(TransportTest, WaitsEndAtTheTimeLimit) {
  run(2, [](Transport& transport) {
    Wiring wiring = line(2);
    transport.set_timeout(std::chrono::milliseconds(50));
    wiring.groups = {{0, 1}};
    transport.connect(wiring);
    if (transport.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      return;
    }
    transport.post_receive(1, 0, forward(1, 0));
    EXPECT_THROW(transport.wait(1, 0), TimeoutError);
    Tensors tensors{number(1)};
    EXPECT_THROW(transport.all_reduce(0, tensors), TimeoutError);
  });
}

TEST_P(TransportTest, ARankThatHasGoneIsNamed) {
  run(2, [](Transport& transport) {
    transport.connect(line(2));
    if (transport.rank() == 1) return;
    transport.post_receive(1, 0, forward(1, 0));
    try {
      transport.wait(1, 0);
      ADD_FAILURE();
    } catch (const PeerFailed& error) {
      EXPECT_EQ(error.rank(), 1);
    }
  });
}

TEST_P(TransportTest, MistakesAreErrors) {
  run(2, [](Transport& transport) {
    Wiring wiring = line(2);
    wiring.groups = {{0, 1}};
    transport.connect(wiring);
    if (transport.rank() == 0) {
      EXPECT_THROW(transport.send(0, {}), TransportError);
      EXPECT_THROW(transport.post_receive(0, 0, forward(0, 0)), TransportError);
      EXPECT_THROW(transport.post_receive(1, 2, forward(0, 0)), TransportError);
      EXPECT_THROW(transport.wait(1, 0), TransportError);
      transport.post_receive(1, 0, forward(1, 0));
      EXPECT_THROW(transport.post_receive(1, 0, forward(1, 1)), TransportError);
      EXPECT_THROW(transport.wait(1, 0), TransportError) << "another message than expected";
      transport.all_gather("");
    } else {
      transport.send(0, {forward(1, 7), {number(1)}, {true}});
      transport.all_gather("");
    }
  });
  run(2, [](Transport& transport) {
    Wiring wiring;
    wiring.groups = {{0, 1}};
    transport.connect(wiring);
    Tensors tensors{at::zeros({transport.rank() + 1})};
    EXPECT_THROW(transport.all_reduce(0, tensors), TransportError);
  });
  run(2, [](Transport& transport) {
    Wiring wiring;
    wiring.groups = {{0, 1}};
    transport.connect(wiring);
    Tensors tensors{at::zeros({1})};
    const auto call = [&] {
      transport.rank() == 0 ? transport.all_reduce(0, tensors) : transport.broadcast(0, 0, tensors);
    };
    EXPECT_THROW(call(), TransportError) << "another call than the other rank's";
  });
}

INSTANTIATE_TEST_SUITE_P(Worlds, TransportTest, testing::ValuesIn(worlds()),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace counterflow::runtime
